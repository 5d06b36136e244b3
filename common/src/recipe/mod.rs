//! The recipe: everything that decides a run's result, as the user writes it.
//!
//! Keys are named as in Hugging Face PEFT and TRL. One file a section; each section's `Default` is the documented default.

mod datasets;
mod lora;
mod model;
mod resources;
mod training;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use datasets::{DatasetSection, RowKind, SliceRange};
pub use lora::{GradientCheckpointing, LoraInit, LoraSection, TargetModules};
pub use model::{Dtype, ModelSection};
pub use resources::{ResourcesSection, WorkerRange};
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
    pub datasets: Vec<DatasetSection>,
    /// How to train.
    #[serde(default)]
    pub training: TrainingSection,
    /// What to train with.
    #[serde(default)]
    pub resources: ResourcesSection,
}
