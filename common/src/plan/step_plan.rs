//! A step and its slots, as data.

use serde::{Deserialize, Serialize};

use crate::id::{SlotId, Step};

/// One optimizer step: the global batch, cut into slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Which step.
    pub step: Step,
    /// The pass over the data that the step's first row belongs to, from 0.
    pub data_epoch: u32,
    /// The micro-batches; `slots[i].slot` is `i`.
    pub slots: Vec<SlotPlan>,
}

impl StepPlan {
    /// Supervised tokens of the whole step: what the loss sum is divided by.
    #[must_use]
    pub fn supervised_tokens(&self) -> u64 {
        self.slots.iter().map(|slot| slot.supervised_tokens).sum()
    }

    /// Tokens of the whole step; there is no padding.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.slots.iter().map(|slot| slot.tokens).sum()
    }

    /// Rows of the whole step.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.slots.iter().map(|slot| slot.rows.len()).sum()
    }
}

/// One micro-batch: whole rows, packed one after another without padding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPlan {
    /// Position within the step.
    pub slot: SlotId,
    /// Indices into the prepared dataset, in packing order.
    pub rows: Vec<u32>,
    /// Sum of the rows' tokens.
    pub tokens: u64,
    /// Sum of the rows' supervised tokens.
    pub supervised_tokens: u64,
}
