//! What the engine wants done, in this order.

use std::time::Duration;

use weft_common::checkpoint::AgeAlarm;
use weft_common::gpu_health::{Concern, Sickness};
use weft_common::id::{Digest, Epoch, JobId, SlotId, Step, WorkerId};
use weft_common::ledger::CommitRecord;
use weft_common::wire::{
    CheckpointRef, Command, DatasetRef, EngineInfo, Heartbeat, Refusal, SlotOutcome, Update,
    Welcome,
};

use super::outcome::{JobOutcome, LossCause, WorkerName};
use super::run::WaitReason;

/// One effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Answer the hello of the event in hand.
    AnswerHello(Result<Welcome, Refusal>),
    /// Answer the submission of the event in hand.
    AnswerSubmit(Result<(), SubmitRefusal>),
    /// Open the job's ledger, prepare and plan its dataset.
    PrepareData(JobId),
    /// Tell a worker.
    Send {
        /// Whom.
        to: WorkerId,
        /// What.
        command: Command,
    },
    /// Make the record durable, then say so.
    AppendLedger {
        /// Of which job.
        job: JobId,
        /// What is committed.
        record: CommitRecord,
    },
    /// Open a new segment of the ledger whose first record will be of this step: what was committed from there on is
    /// about to be computed again.
    RewindLedger {
        /// Of which job.
        job: JobId,
        /// The step.
        first_step: Step,
    },
    /// End a worker's session.
    Hangup(WorkerId),
    /// Tell people.
    Notify {
        /// Of which job; of the coordinator itself where there is none.
        job: Option<JobId>,
        /// What.
        notice: Notice,
    },
    /// Nothing is left to do: the coordinator ends.
    Stop,
}

/// Why a job was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefusal {
    /// A job of that name is not over.
    #[error("job {active} is active; wait for its end or cancel it")]
    Busy {
        /// The job that is.
        active: JobId,
    },
    /// More jobs wait than the coordinator remembers.
    #[error("{limit} jobs wait already, the most that this coordinator holds; submit again later")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The coordinator ends.
    #[error("coordinator is shutting down")]
    ShuttingDown,
}

/// A micro-batch that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedSlot {
    /// Which.
    pub slot: SlotId,
    /// Who computed it.
    pub worker: WorkerId,
    /// What came out.
    pub outcome: SlotOutcome,
}

/// What people want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A worker is attached.
    WorkerJoined(WorkerName),
    /// A worker is gone.
    WorkerGone {
        /// Which.
        worker: WorkerName,
        /// Why.
        cause: String,
    },
    /// The dataset is prepared and cut into steps.
    Planned {
        /// The prepared dataset.
        dataset: DatasetRef,
        /// Steps of the whole job.
        total_steps: u64,
        /// Steps of one pass over the data.
        steps_per_epoch: u64,
        /// The first step to run.
        start: Step,
    },
    /// The job's turn has come: its data are prepared.
    Admitted,
    /// The job waits.
    Waiting(WaitReason),
    /// The members are known; step `step` begins or goes on.
    EpochFormed(EpochReport),
    /// A member is gone, and the job goes on without it.
    MemberLost(Incident),
    /// Nobody holds the newest state any more: the job goes back to a checkpoint.
    RolledBack {
        /// As many steps were committed.
        from: Step,
        /// As many steps are, now.
        to: Step,
    },
    /// A step is committed and applied.
    StepCommitted(StepReport),
    /// A checkpoint is complete.
    CheckpointSaved {
        /// Which.
        checkpoint: CheckpointRef,
        /// Sum of its file sizes.
        bytes: u64,
        /// From the snapshot to the manifest.
        elapsed: Duration,
    },
    /// A checkpoint could not be written; training goes on.
    CheckpointFailed {
        /// Which.
        checkpoint: CheckpointRef,
        /// What failed, the values, the remedy.
        message: String,
    },
    /// No checkpoint was completed for too long; training goes on.
    CheckpointOverdue(AgeAlarm),
    /// A worker's GPU is sick: the worker is let go.
    GpuSick {
        /// Which.
        worker: WorkerName,
        /// What it has.
        sickness: Sickness,
    },
    /// Something of a worker's GPU is worth knowing; work goes on.
    GpuConcern {
        /// Which.
        worker: WorkerName,
        /// What.
        concern: Concern,
    },
    /// The job finishes what it does and ends.
    Draining(String),
    /// The job is over.
    Ended(JobOutcome),
}

/// A member that is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Which.
    pub worker: WorkerName,
    /// Why.
    pub cause: LossCause,
    /// The step in hand.
    pub step: Step,
    /// Micro-batches of that step that others compute again.
    pub slots_returned: usize,
    /// Members that are left.
    pub left: usize,
}

impl std::fmt::Display for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (worker, cause, step) = (&self.worker, &self.cause, self.step.next());
        write!(f, "lost {worker} in step {step}: {cause}; ")?;
        match self.slots_returned {
            0 => write!(f, "nothing is computed again")?,
            1 => write!(f, "1 micro-batch is computed again")?,
            many => write!(f, "{many} micro-batches are computed again")?,
        }
        match self.left {
            0 => write!(f, ", no worker is left"),
            1 => write!(f, ", 1 worker goes on"),
            left => write!(f, ", {left} workers go on"),
        }
    }
}

/// A formed membership.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochReport {
    /// Its generation.
    pub epoch: Epoch,
    /// The step that it starts with.
    pub step: Step,
    /// Steps of the whole job.
    pub total_steps: u64,
    /// Its members, in rank order.
    pub members: Vec<(WorkerName, EngineInfo)>,
}

/// A committed and applied step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// The membership.
    pub epoch: Epoch,
    /// Members.
    pub world: u32,
    /// Mean loss over supervised tokens.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Whether the update was applied.
    pub update: Update,
    /// All tokens.
    pub tokens: u64,
    /// Supervised tokens.
    pub supervised_tokens: u64,
    /// Rows.
    pub rows: u64,
    /// Pass over the data that the step's first row belongs to, from 0.
    pub data_epoch: u32,
    /// Digest of the state afterwards.
    pub state_digest: Digest,
    /// Where the time went.
    pub timing: StepTiming,
    /// Last signs of life of the members, in rank order.
    pub members: Vec<Heartbeat>,
}

/// Where a step's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepTiming {
    /// From the grants to the commit.
    pub total: Duration,
    /// Longest time that one member computed slots, including the previous step's update.
    pub compute: Duration,
    /// Longest time that one member reduced.
    pub reduce: Duration,
    /// From the moment when all slots were in to the commit, less what the slowest member reduced; part of `control`.
    pub commit: Duration,
    /// Waiting for the ledger's disk; part of `commit`.
    pub ledger: Duration,
    /// From the grants to the commit, less what the busiest member computed and reduced.
    pub control: Duration,
}

impl StepTiming {
    /// The control plane's part without the ledger's disk.
    #[must_use]
    pub fn talking(&self) -> Duration {
        self.control.saturating_sub(self.ledger)
    }
}
