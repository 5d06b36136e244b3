//! What is measured.

use std::path::PathBuf;

use serde::Serialize;
use weft_common::recipe::{
    Dtype, GradientCheckpointing, LoraSection, ModelSection, Recipe, ResourcesSection,
    TrainingSection,
};

use crate::model::Preset;

/// The model whose steps are measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchModel {
    /// A well-known model's dimensions, with random weights.
    Preset(Preset),
    /// A folder's dimensions, with random weights.
    RandomLike(PathBuf),
    /// A folder's model.
    Folder(PathBuf),
}

impl BenchModel {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Preset(preset) => preset.name().to_owned(),
            Self::RandomLike(folder) | Self::Folder(folder) => folder.display().to_string(),
        }
    }
}

/// The shape of a step and how it is computed. Every token is supervised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSettings {
    /// Rows of a micro-batch.
    pub micro_batch: u32,
    /// Micro-batches of a step.
    pub accumulation: u32,
    /// Tokens of a row.
    pub sequence_length: u32,
    /// Steps that count.
    pub steps: u32,
    /// Steps before those.
    pub warmup: u32,
    /// The adapter's rank, on all seven linears.
    pub rank: u32,
    /// What is kept from the forward pass.
    pub checkpointing: GradientCheckpointing,
    /// Number format of activations on a GPU.
    pub dtype: Dtype,
    /// The most that may be taken of the device's memory.
    pub memory_limit_bytes: Option<u64>,
}

impl StepSettings {
    /// Tokens of a micro-batch.
    #[must_use]
    pub fn slot_tokens(&self) -> usize {
        self.micro_batch as usize * self.sequence_length as usize
    }

    /// Tokens of a step.
    #[must_use]
    pub fn step_tokens(&self) -> u64 {
        u64::from(self.micro_batch) * u64::from(self.accumulation) * u64::from(self.sequence_length)
    }

    /// Steps computed in all.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        u64::from(self.warmup) + u64::from(self.steps)
    }

    /// A recipe of such steps; what it does not say is a recipe's default.
    pub(super) fn recipe(&self, model: &str) -> Recipe {
        Recipe {
            model: ModelSection {
                base_model: model.to_owned(),
                max_seq_length: self.sequence_length,
                dtype: self.dtype,
                ..ModelSection::default()
            },
            lora: LoraSection {
                r: self.rank,
                use_gradient_checkpointing: self.checkpointing,
                ..LoraSection::default()
            },
            datasets: Vec::new(),
            eval_datasets: Vec::new(),
            training: TrainingSection {
                per_device_train_batch_size: self.micro_batch,
                gradient_accumulation_steps: self.accumulation,
                ..TrainingSection::default()
            },
            resources: ResourcesSection {
                memory_limit: self.memory_limit_bytes.map(|bytes| bytes.to_string()),
                ..ResourcesSection::default()
            },
        }
    }
}
