//! From worker to coordinator.

use std::time::Duration;

use super::{CheckpointRef, EngineInfo, ErrorKind, Membership, Round, SlotOutcome, SumHealth};
use crate::gpu_health::GpuHealth;
use crate::id::{Digest, LeaseId, SlotId, Step, WorkerId};

/// What a worker reports over its session.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Sign of life.
    Heartbeat(Heartbeat),
    /// The engine is loaded, the state restored or copied, the ports open.
    Prepared(Holding),
    /// The worker could not copy the state of a peer; it still holds what it held.
    SyncFailed(SyncFailed),
    /// A micro-batch is computed; it is in the worker's accumulator, or staged beside it where its grant says so.
    SlotDone(SlotDone),
    /// The members' accumulators are summed.
    Reduced(ReducedReport),
    /// A committed step is applied.
    Applied(AppliedReport),
    /// A checkpoint is complete.
    CheckpointWritten(CheckpointWritten),
    /// A checkpoint could not be written; training goes on.
    CheckpointFailed(CheckpointFailed),
    /// The worker cannot go on with the job.
    Failed(WorkerFailed),
    /// The worker was told to stop and asks to be let go.
    Leave {
        /// Why.
        reason: String,
    },
}

/// Sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// Micro-batches computed since the process started.
    pub slots_computed: u64,
    /// Peak resident memory of the process; 0 where unknown.
    pub peak_resident_bytes: u64,
    /// Memory of the GPU that is in use, by its driver's count, after the last order; 0 on a CPU and where unknown.
    pub device_bytes: u64,
    /// How its GPU is; nothing on a CPU, and where no driver says it.
    pub gpu: Option<GpuHealth>,
}

/// What a worker holds of a job; with it, the worker could become a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// The newest membership that the worker heard of.
    pub membership: Membership,
    /// The step that the state stands before.
    pub next_step: Step,
    /// The engine.
    pub engine: EngineInfo,
    /// Port where peers reach the worker's ring.
    pub ring_port: u16,
    /// Port where peers fetch the worker's state.
    pub peer_port: u16,
    /// Micro-batches of `next_step` that are in the accumulator, no others.
    pub slots: Vec<HeldSlot>,
    /// The reduced sum of `next_step`, where the worker has it.
    pub sum: Option<HeldSum>,
}

/// A micro-batch in an accumulator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldSlot {
    /// Which.
    pub slot: SlotId,
    /// What came out.
    pub outcome: SlotOutcome,
}

/// A reduced sum that waits for its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldSum {
    /// Digest of the summed integers.
    pub digest: Digest,
    /// What the reserved elements say.
    pub health: SumHealth,
}

/// A state that could not be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncFailed {
    /// Answers the command of this membership.
    pub membership: Membership,
    /// Whom the worker asked.
    pub source: WorkerId,
    /// What failed, the values, the remedy.
    pub message: String,
}

/// A computed micro-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotDone {
    /// The attempt.
    pub round: Round,
    /// Which micro-batch.
    pub slot: SlotId,
    /// The grant it was computed under.
    pub lease: LeaseId,
    /// What came out.
    pub outcome: SlotOutcome,
    /// Time computing.
    pub elapsed: Duration,
}

/// A summed gradient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReducedReport {
    /// The attempt.
    pub round: Round,
    /// [`SumDigest`](crate::sum_digest::SumDigest) of the summed integers.
    pub digest: Digest,
    /// The same of what this worker put in.
    pub part: Digest,
    /// What the reserved elements say.
    pub health: SumHealth,
    /// Time reducing, waiting for peers included.
    pub elapsed: Duration,
}

/// An applied step.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedReport {
    /// The attempt that was committed.
    pub round: Round,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Digest of adapter and optimizer state afterwards.
    pub state_digest: Digest,
    /// Time applying.
    pub elapsed: Duration,
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointWritten {
    /// The membership that asked for it.
    pub membership: Membership,
    /// Where, and for which step.
    pub checkpoint: CheckpointRef,
    /// Sum of its file sizes.
    pub bytes: u64,
    /// From the snapshot to the manifest.
    pub elapsed: Duration,
}

/// A checkpoint that could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFailed {
    /// The membership that asked for it.
    pub membership: Membership,
    /// Where, and for which step.
    pub checkpoint: CheckpointRef,
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What failed, the values, the remedy.
    pub message: String,
}

/// A worker that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerFailed {
    /// The membership it worked for.
    pub membership: Membership,
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What failed, the values, the remedy.
    pub message: String,
    /// The peer that could not be reached, where that is what failed.
    pub suspect: Option<WorkerId>,
}
