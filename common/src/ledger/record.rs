//! What the ledger says of a step.

use serde::{Deserialize, Serialize};

use super::folder::SegmentId;
use super::number;
use crate::id::{Digest, Epoch, JobId, SlotId, Step, Term, WorkerId};
use crate::plan::SlotPlan;

/// One committed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitRecord {
    /// Which step.
    pub step: Step,
    /// The pass over the data, from 0.
    pub data_epoch: u32,
    /// Incarnation of the coordinator that committed it.
    pub term: Term,
    /// Generation of the membership that computed it.
    pub epoch: Epoch,
    /// Who computed what; `slots[i].slot` is `i`.
    pub slots: Vec<SlotRecord>,
    /// Digest of the summed integers, which all members agreed on.
    pub gradient_digest: Digest,
    /// Digest of adapter and optimizer state that the step started from, which all members agreed on.
    pub state_digest: Digest,
    /// What members do with the sum.
    pub update: Update,
    /// The learning rate of the update.
    #[serde(with = "number")]
    pub learning_rate: f64,
    /// The gradient's norm before clipping in the step before, which is known once that was applied; 0 where there is
    /// no step before, or it was skipped.
    #[serde(with = "number")]
    pub previous_grad_norm: f64,
}

/// One slot of a committed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// Which slot.
    pub slot: SlotId,
    /// Whose result counted.
    pub worker: WorkerId,
    /// The rows of the prepared dataset that it holds.
    pub rows: Vec<u32>,
    /// Their tokens.
    pub tokens: u64,
    /// Their supervised tokens.
    pub supervised_tokens: u64,
    /// Sum of the losses of the supervised tokens.
    #[serde(with = "number")]
    pub loss_sum: f64,
    /// Digest of the slot's gradient.
    pub digest: Digest,
}

impl CommitRecord {
    /// Mean loss of the step's supervised tokens. Slots are added in slot order, so that no bit depends on who computed
    /// which.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        let loss_sum: f64 = self.slots.iter().map(|slot| slot.loss_sum).sum();
        let supervised: u64 = self.slots.iter().map(|slot| slot.supervised_tokens).sum();
        loss_sum / supervised.max(1) as f64
    }
}

impl SlotRecord {
    /// The record of a planned slot that `worker` computed.
    #[must_use]
    pub fn new(plan: &SlotPlan, worker: WorkerId, loss_sum: f64, digest: Digest) -> Self {
        Self {
            slot: plan.slot,
            worker,
            rows: plan.rows.clone(),
            tokens: plan.tokens,
            supervised_tokens: plan.supervised_tokens,
            loss_sum,
            digest,
        }
    }
}

/// What members do with a summed gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// The optimizer takes a step.
    Apply,
    /// The sum was not finite or overflowed: the state stays as it is.
    Skip,
}

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentHeader {
    pub(super) format_version: u32,
    pub(super) job: JobId,
    pub(super) term: Term,
    /// Position among the segments of its term, from 0.
    pub(super) sequence: u32,
    /// The step of its first record. Earlier records of this step and those after it no longer count.
    pub(super) first_step: Step,
    /// Where the ledger ended when this segment was begun; `None` in the first.
    pub(super) follows: Option<End>,
}

impl SegmentHeader {
    pub(super) const fn id(&self) -> SegmentId {
        SegmentId {
            term: self.term,
            sequence: self.sequence,
        }
    }
}

/// An end of the ledger. The digest of the line that goes on from it covers the lines up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    /// The segment that was the newest.
    pub(super) segment: SegmentId,
    /// So many bytes of it count; what stands behind them was never committed.
    pub(super) bytes: u64,
}
