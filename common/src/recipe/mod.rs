//! The recipe: everything that decides a run's result, as the user writes it.
//!
//! Keys are named as in Hugging Face PEFT and TRL. One file a section; each section's `Default` is the documented
//! default, and its types, ranges and descriptions are the JSON schema that every recipe is checked against.
//!
//! From text to recipe ([`Recipe::load`]): `source` reads YAML, JSON or TOML into one tree → `aliases` gives every key
//! its canonical name → `overrides` lays `--set` over it → `values` writes other tools' values as weft's → `check`
//! holds the tree against the schema → `validate` looks at what keys mean together → `resolve` finds the files. Each
//! stage collects problems, so that a user sees all of them at once.

mod aliases;
mod check;
mod datasets;
mod digest;
mod foreign;
mod json;
mod load;
mod lora;
mod model;
mod overrides;
mod problem;
mod resolve;
mod resources;
mod schema;
mod section;
mod source;
mod suggest;
mod training;
mod validate;
mod values;

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use datasets::{DatasetSection, RowKind, SliceRange};
pub use load::LoadedRecipe;
pub use lora::{GradientCheckpointing, LoraInit, LoraSection, TargetModules};
pub use model::{Dtype, ModelSection};
pub use problem::{Problem, RecipeErrors};
pub use resources::{ResourcesSection, WorkerRange};
pub use schema::schema;
pub use source::Format;
pub use training::{BatchScaling, GradientReduction, LrSchedulerType, Optimizer, TrainingSection};

/// A whole recipe, validated and with defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The frozen base model and how its text is laid out.
    pub model: ModelSection,
    /// The adapter to train.
    #[serde(default)]
    pub lora: LoraSection,
    /// What to train on; several are joined in the order given.
    #[schemars(length(min = 1))]
    pub datasets: Vec<DatasetSection>,
    /// What to evaluate on and never train on, written as `datasets` are. `slices` keep rows of one file apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eval_datasets: Vec<DatasetSection>,
    /// How to train.
    #[serde(default)]
    pub training: TrainingSection,
    /// What to train with.
    #[serde(default)]
    pub resources: ResourcesSection,
}

impl Recipe {
    /// Rows per optimizer step, whatever the number of workers that run.
    #[must_use]
    pub fn rows_per_step(&self) -> u32 {
        let rows = self.training.unscaled_rows_per_step();
        match self.training.batch_scaling {
            BatchScaling::Fixed => rows,
            BatchScaling::PerWorker => rows.saturating_mul(self.resources.workers.max.unwrap_or(1)),
        }
    }

    /// `resources.workers.max`; where unset, as many as a step has micro-batches of `per_device_train_batch_size`
    /// rows. A step is cut into at least so many slots, where it has so many rows.
    #[must_use]
    pub fn max_slots(&self) -> u32 {
        let micro_batches = || {
            self.rows_per_step()
                .div_ceil(self.training.per_device_train_batch_size.max(1))
        };
        self.resources.workers.max.unwrap_or_else(micro_batches)
    }

    /// How few and how many workers may run the job.
    #[must_use]
    pub fn worker_bounds(&self) -> RangeInclusive<u32> {
        self.resources.workers.min..=self.max_slots()
    }

    /// Seed of the adapter's start.
    #[must_use]
    pub fn adapter_seed(&self) -> u64 {
        self.lora.random_state.unwrap_or(self.training.seed)
    }
}
