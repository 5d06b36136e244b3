//! `resources:` what to train with. Only `workers.max` touches the result: it bounds how finely a step is cut.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to train with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourcesSection {
    /// How many workers the job may have.
    pub workers: WorkerRange,
}

/// Bounds on the number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerRange {
    /// Below this many the job waits.
    #[schemars(range(min = 1))]
    pub min: u32,
    /// Each step is cut into at least this many slots where its rows allow.
    /// Unset: the rows of a step over `per_device_train_batch_size`, so that the slots are the recipe's own
    /// micro-batches.
    #[schemars(range(min = 1))]
    pub max: Option<u32>,
}

impl Default for WorkerRange {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}
