//! `training:` how to train. Names and defaults as in Hugging Face's `TrainingArguments` where those exist.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::StoreUrl;

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSection {
    /// Rows per micro-batch; times `max_seq_length` it bounds the tokens of a slot.
    #[schemars(range(min = 1))]
    pub per_device_train_batch_size: u32,
    /// Micro-batches per optimizer step; the product with the batch size is the global batch.
    #[schemars(range(min = 1))]
    pub gradient_accumulation_steps: u32,
    /// Rows per optimizer step, said outright.
    #[schemars(range(min = 1))]
    pub global_batch_size: Option<u32>,
    /// Whether adding workers changes the global batch.
    pub batch_scaling: BatchScaling,
    /// Passes over the data; fractions are allowed.
    #[schemars(range(min = 0))]
    pub num_train_epochs: f64,
    /// Optimizer steps in all; 0 or less means unset, and the epochs decide.
    pub max_steps: i64,
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Shape of the learning rate over the steps.
    pub lr_scheduler_type: LrSchedulerType,
    /// Full cosine cycles, for `cosine_with_restarts`.
    #[schemars(range(min = 1))]
    pub lr_scheduler_num_cycles: u32,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Warm-up as a share of all steps; `warmup_steps` wins when above 0.
    #[schemars(range(min = 0, max = 1))]
    pub warmup_ratio: f64,
    /// The optimizer and the width of its state.
    pub optim: Optimizer,
    /// Decoupled weight decay on the adapter's matrices.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// AdamW's first decay rate.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub adam_beta1: f64,
    /// AdamW's second decay rate.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub adam_beta2: f64,
    /// AdamW's epsilon.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub adam_epsilon: f64,
    /// Gradients are scaled down to this global norm; 0 turns it off.
    #[schemars(range(min = 0))]
    pub max_grad_norm: f64,
    /// Supervise assistant text and its end-of-turn token only.
    pub train_on_responses_only: bool,
    /// Accepted for compatibility: weft always packs without padding and keeps documents apart.
    pub packing: bool,
    /// Seed of shuffling, dropout and the adapter's start.
    pub seed: u64,
    /// Seed of shuffling alone; `seed` where unset.
    pub data_seed: Option<u64>,
    /// Where results go; relative paths start at the current folder.
    pub output_dir: String,
    /// Where checkpoints go beside `output_dir`, so that a run can go on without its machine: `s3://bucket/prefix`, or
    /// `file:///folder` on a disk that all machines share.
    pub storage: Option<String>,
    /// Steps between checkpoints; 0 keeps only the final one.
    pub save_steps: u64,
    /// How many checkpoints stay.
    #[schemars(range(min = 1))]
    pub save_total_limit: Option<u32>,
    /// Steps between log lines.
    #[schemars(range(min = 1))]
    pub logging_steps: u64,
    /// Threads that tokenize; 0 uses all cores.
    pub dataset_num_proc: u32,
    /// How gradients of different slots are summed.
    pub gradient_reduction: GradientReduction,
}

impl Default for TrainingSection {
    fn default() -> Self {
        Self {
            per_device_train_batch_size: 2,
            gradient_accumulation_steps: 4,
            global_batch_size: None,
            batch_scaling: BatchScaling::default(),
            num_train_epochs: 1.0,
            max_steps: -1,
            learning_rate: 2e-4,
            lr_scheduler_type: LrSchedulerType::default(),
            lr_scheduler_num_cycles: 1,
            warmup_steps: 5,
            warmup_ratio: 0.0,
            optim: Optimizer::default(),
            weight_decay: 0.01,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            train_on_responses_only: true,
            packing: false,
            seed: 3407,
            data_seed: None,
            output_dir: "outputs".to_owned(),
            storage: None,
            save_steps: 50,
            save_total_limit: None,
            logging_steps: 1,
            dataset_num_proc: 0,
            gradient_reduction: GradientReduction::default(),
        }
    }
}

impl TrainingSection {
    /// Rows per optimizer step before [`BatchScaling`]: `global_batch_size`, or batch size × accumulation.
    pub(super) fn unscaled_rows_per_step(&self) -> u32 {
        let product = self
            .per_device_train_batch_size
            .saturating_mul(self.gradient_accumulation_steps);
        self.global_batch_size.unwrap_or(product)
    }

    /// Optimizer steps in all, where the recipe sets them.
    #[must_use]
    pub fn max_steps(&self) -> Option<u64> {
        u64::try_from(self.max_steps)
            .ok()
            .filter(|&steps| steps > 0)
    }

    /// The address in `storage`; `None` where unset. A recipe that was validated holds no other text.
    #[must_use]
    pub fn store_url(&self) -> Option<StoreUrl> {
        self.storage.as_ref()?.parse().ok()
    }

    /// Seed of the shuffle.
    #[must_use]
    pub fn data_seed(&self) -> u64 {
        self.data_seed.unwrap_or(self.seed)
    }
}

/// Whether the global batch grows with the number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchScaling {
    /// The global batch stays: more workers change the speed and nothing else.
    #[default]
    Fixed,
    /// The global batch is multiplied by `resources.workers.max`, as launchers that run one process per GPU do. It is
    /// the recipe's bound that multiplies, not the number of workers that run, so that the result stays the same
    /// whoever computes it.
    PerWorker,
}

/// Shape of the learning rate over the steps; formulas as in Hugging Face's `optimization.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Down to zero in a straight line.
    #[default]
    Linear,
    /// Half a cosine down to zero.
    Cosine,
    /// Cosine that jumps back to the peak.
    CosineWithRestarts,
    /// Straight line down to 1e-7.
    Polynomial,
    /// The peak, without warm-up.
    Constant,
    /// Warm-up, then the peak.
    ConstantWithWarmup,
    /// Warm-up, then 1/√step.
    InverseSqrt,
}

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Optimizer {
    /// AdamW with bitsandbytes' 8-bit block-wise state.
    #[default]
    #[serde(rename = "adamw_8bit")]
    AdamW8bit,
    /// AdamW with 32-bit state.
    #[serde(rename = "adamw_torch")]
    AdamW,
}

/// How gradients of different slots are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradientReduction {
    /// 64-bit fixed point: the order and the number of workers cannot change a bit.
    #[default]
    Exact,
}
