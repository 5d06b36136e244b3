//! From coordinator to worker.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Membership, Round};
use crate::id::{Digest, LeaseId, Rank, Step, WorkerId};
use crate::plan::SlotPlan;

/// What the coordinator tells a worker over its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Load the job.
    Prepare(Prepare),
    /// A new membership.
    FormEpoch(FormEpoch),
    /// Copy a member's state.
    FetchState(FetchState),
    /// Go back to a checkpoint.
    Restore(Restore),
    /// Compute these micro-batches.
    Lease(Lease),
    /// What becomes of a staged micro-batch.
    Settle(Settle),
    /// All micro-batches are accepted: sum the accumulators.
    Seal(Round),
    /// The step is durable: apply it.
    Commit(Commit),
    /// Write the state.
    TakeCheckpoint(TakeCheckpoint),
    /// A report was refused.
    Reject(Reject),
    /// The job is over for this worker, which returns to standby.
    EndJob(EndJob),
    /// The worker process ends.
    Shutdown {
        /// Why.
        reason: String,
    },
}

/// Load the job: dataset, base model, state. A worker that holds it already only says what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// The job; the epoch is 0 before the first one was formed.
    pub membership: Membership,
    /// The recipe, validated and with absolute paths, as JSON.
    pub recipe_json: String,
    /// The prepared dataset.
    pub dataset: DatasetRef,
    /// Optimizer steps of the whole job.
    pub total_steps: u64,
    /// State to start from.
    pub resume: Option<CheckpointRef>,
    /// Others train already; the worker will join them.
    pub joins: bool,
}

/// A prepared dataset: by content, and where the coordinator has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetRef {
    /// Digest of the prepared content.
    pub digest: Digest,
    /// Folder on the coordinator's host.
    pub dir: PathBuf,
    /// Its files.
    pub files: Vec<DatasetFile>,
}

/// A file of a prepared dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFile {
    /// Name within the folder, without separators.
    pub name: String,
    /// Length.
    pub bytes: u64,
}

/// A complete checkpoint folder, or one to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRef {
    /// The folder.
    pub dir: PathBuf,
    /// The step that training continues with.
    pub next_step: Step,
}

/// A new membership. Its members connect to each other when they first have something to sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormEpoch {
    /// The new membership.
    pub membership: Membership,
    /// Its members; `members[i].rank` is `i`. Shared, because every member is told of all.
    pub members: Arc<[Member]>,
    /// The step that it starts with, which the worker's state stands before.
    pub step: Step,
    /// Whether what the worker's accumulator holds of this step counts; otherwise it drops it, with all older grants.
    pub keep: bool,
}

/// Copy the committed state of a member, then say what is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchState {
    /// The membership that the source is a member of.
    pub membership: Membership,
    /// The member.
    pub source: WorkerId,
    /// Where it serves its state.
    pub address: SocketAddr,
}

/// Go back to a checkpoint, or to the beginning where there is none, then say what is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The job.
    pub membership: Membership,
    /// The checkpoint.
    pub checkpoint: Option<CheckpointRef>,
}

/// One member of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The worker.
    pub worker: WorkerId,
    /// Position in the ring.
    pub rank: Rank,
    /// Where its ring listens.
    pub address: SocketAddr,
}

/// Micro-batches granted to one worker alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The attempt.
    pub round: Round,
    /// What the step's loss sum is divided by.
    pub step_supervised: u64,
    /// What to compute, in this order.
    pub slots: Vec<LeasedSlot>,
}

/// One granted micro-batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedSlot {
    /// The grant.
    pub lease: LeaseId,
    /// The micro-batch.
    pub plan: SlotPlan,
    /// Whether the gradient stays beside the accumulator until [`Settle`] says what becomes of it.
    pub staged: bool,
}

/// What becomes of a staged micro-batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The attempt.
    pub round: Round,
    /// The grant.
    pub lease: LeaseId,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a staged micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts: it is added to the accumulator.
    Merge,
    /// Another worker's counts: it is forgotten, computed or not.
    Discard,
}

/// The step is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The attempt that counts.
    pub round: Round,
    /// What happens to its sum.
    pub update: Update,
}

/// What happens to the summed gradient of a committed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// The optimizer applies it.
    Apply,
    /// It was not finite, and the job's policy lets such steps pass.
    Skip,
}

/// Write the state before `checkpoint.next_step`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeCheckpoint {
    /// The membership whose state it is.
    pub membership: Membership,
    /// Where, and for which step.
    pub checkpoint: CheckpointRef,
    /// Members at this moment.
    pub world: u32,
}

/// A report was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// What the report said of itself.
    pub round: Round,
    /// Why.
    pub reason: RejectReason,
}

/// Why a report was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Of another job, or no job runs.
    Job,
    /// Of another incarnation of the coordinator.
    Term,
    /// Of another membership.
    Epoch,
    /// Of another step.
    Step,
    /// The lease is unknown, or another worker's.
    Lease,
    /// The slot was accepted before.
    Slot,
    /// Not legal in the job's present state.
    Phase,
    /// The sender is no member.
    Member,
    /// Its figures are not those of the plan.
    Outcome,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Job => "of another job",
            Self::Term => "of another coordinator term",
            Self::Epoch => "of another epoch",
            Self::Step => "of another step",
            Self::Lease => "under an unknown lease",
            Self::Slot => "of a slot that was accepted before",
            Self::Phase => "not expected now",
            Self::Member => "from a worker that is no member",
            Self::Outcome => "with figures that are not the plan's",
        })
    }
}

/// The job is over for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndJob {
    /// The membership that ends.
    pub membership: Membership,
    /// How it ended, for the worker's log.
    pub outcome: String,
}
