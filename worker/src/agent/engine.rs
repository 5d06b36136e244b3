//! What the agent drives: one job's model, optimizer and accumulator on one device.

use std::path::Path;

use weft_common::id::{Digest, Step};
use weft_common::plan::SlotPlan;
use weft_common::wire::Membership;
pub use weft_common::wire::{EngineInfo, ErrorKind, MemoryReport, SlotOutcome, SumHealth};

use super::order::StateCopy;
use crate::collective::{Cancel, Collective, CollectiveError, GpuLink};

/// One job's model, optimizer and accumulator on one device, driven by the agent's training thread.
///
/// Order of calls within a step: any number of [`compute_slot`](Self::compute_slot), one or more
/// [`reduce`](Self::reduce) (again after a failed one), then either [`apply`](Self::apply) or
/// [`skip`](Self::skip). The accumulator survives `reduce` and ends with `apply`, `skip` or
/// [`drop_accumulator`](Self::drop_accumulator).
///
/// Beside the accumulator there is room for one *staged* micro-batch, of which it is not yet known whether it counts:
/// [`compute_staged`](Self::compute_staged) fills it, [`merge_staged`](Self::merge_staged) adds it to the accumulator,
/// [`discard_staged`](Self::discard_staged) forgets it.
pub trait Engine: Send {
    /// Describes the engine as it is now; the state digest covers adapter and optimizer state.
    fn info(&self) -> EngineInfo;

    /// Memory of the engine's GPU that is in use by everybody, by its driver's count; nothing on a CPU.
    fn device_bytes(&self) -> Option<u64> {
        None
    }

    /// The engine's GPU, whose sums could go over NCCL; nothing on a CPU. Always the same.
    fn gpu_link(&self) -> Option<GpuLink> {
        None
    }

    /// Computes one micro-batch and adds its gradient to the accumulator.
    ///
    /// `step_supervised` is what the step's loss sum is divided by, known from the plan.
    ///
    /// # Errors
    /// The accumulator may hold part of the slot; the caller drops it.
    fn compute_slot(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        step_supervised: u64,
    ) -> Result<SlotOutcome, EngineError>;

    /// Computes one micro-batch and keeps its gradient beside the accumulator, in the place of what was staged before.
    /// Nothing where `cancel` was raised meanwhile; nothing is staged then.
    ///
    /// # Errors
    /// Nothing is staged then, and the accumulator is as it was.
    fn compute_staged(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        step_supervised: u64,
        cancel: &Cancel,
    ) -> Result<Option<SlotOutcome>, EngineError>;

    /// Adds the staged micro-batch to the accumulator: the same bits as if it had been computed there.
    ///
    /// # Errors
    /// Nothing is staged.
    fn merge_staged(&mut self) -> Result<(), EngineError>;

    /// Forgets the staged micro-batch, if there is one.
    fn discard_staged(&mut self);

    /// Sums the accumulators of all members. The own accumulator stays as it is, so that the call can be repeated
    /// with another collective.
    ///
    /// # Errors
    /// [`ErrorKind::Collective`] where a peer failed or `cancel` was raised.
    fn reduce(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<Reduced, EngineError>;

    /// Applies the optimizer to the last reduced sum and empties the accumulator. What is staged is forgotten.
    ///
    /// # Errors
    /// The state is undefined afterwards.
    fn apply(&mut self, step: Step) -> Result<Applied, EngineError>;

    /// Lets the step pass without an update, after a sum that was not finite, and empties the accumulator.
    /// What is staged is forgotten.
    ///
    /// # Errors
    /// The state is undefined afterwards.
    fn skip(&mut self, step: Step) -> Result<Applied, EngineError>;

    /// Forgets the gradients of the current step.
    fn drop_accumulator(&mut self);

    /// Copies the state as it is now, so that it can be written while training goes on.
    ///
    /// # Errors
    /// No memory for the copy.
    fn snapshot(&mut self, meta: &SnapshotMeta) -> Result<Box<dyn Snapshot>, EngineError>;

    /// Replaces the state by that of a complete checkpoint folder; gives the step that training continues with. The
    /// accumulator is empty and nothing is staged then.
    ///
    /// # Errors
    /// The checkpoint is incomplete, or of another base model, adapter, optimizer or dataset. Everything is as it was
    /// then.
    fn restore(&mut self, dir: &Path) -> Result<Step, EngineError>;

    /// The same, with a state that came from a peer.
    ///
    /// # Errors
    /// It is damaged, or of another base model, adapter, optimizer or dataset. Everything is as it was then.
    fn adopt(&mut self, copy: &StateCopy) -> Result<Step, EngineError>;
}

/// State that waits to be written, or to be sent to a peer, on a thread of its own.
pub trait Snapshot: Send {
    /// What a peer has to know before it takes the arrays over; of a few kilobytes.
    ///
    /// # Errors
    /// The state cannot be described.
    fn header(&self) -> Result<Vec<u8>, EngineError>;

    /// The bytes of all arrays, in an order that both sides know.
    fn arrays(&self) -> Vec<&[u8]>;

    /// Writes a complete checkpoint folder at `dir`, the manifest last.
    ///
    /// # Errors
    /// Nothing of `dir` is left then that could be taken for a checkpoint.
    fn write(self: Box<Self>, dir: &Path) -> Result<SnapshotFiles, EngineError>;
}

/// A written checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFiles {
    /// Sum of the file sizes.
    pub bytes: u64,
}

/// What a checkpoint says of itself and the engine cannot know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The job, the coordinator's incarnation and the membership it was taken in.
    pub membership: Membership,
    /// The step that training continues with: as many steps are committed.
    pub next_step: Step,
    /// Members at that time; informational, any number may resume.
    pub world: u32,
}

/// A summed gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reduced {
    /// [`SumDigest`](weft_common::sum_digest::SumDigest) of the summed integers, reserved elements included.
    pub digest: Digest,
    /// The same of what this worker put in, as it was read for that: the digests of its micro-batches, added up.
    pub part: Digest,
    /// What the reserved elements say.
    pub health: SumHealth,
}

/// An applied (or skipped) update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applied {
    /// Global norm of the gradient before clipping; 0 for a skipped step.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Digest of adapter and optimizer state afterwards.
    pub state_digest: Digest,
}

/// Why an engine could not go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What kind of failure; decides the exit code.
    pub kind: ErrorKind,
    /// What failed, the values, the remedy.
    pub message: String,
}

impl EngineError {
    /// An error of `kind`, with all causes of `error` in its message.
    pub fn new(kind: ErrorKind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            message: format!("{:#}", error.into()),
        }
    }
}

impl From<CollectiveError> for EngineError {
    fn from(error: CollectiveError) -> Self {
        Self::new(ErrorKind::Collective, error)
    }
}
