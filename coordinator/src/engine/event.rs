//! What happens to the engine.

use std::net::IpAddr;
use std::sync::Arc;

use weft_common::id::{JobId, Step, WorkerId};
use weft_common::wire::{self, Hello};

use super::job::RunData;
use super::terms::JobTerms;

/// One thing that happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job was handed in.
    Submitted(JobTerms),
    /// Someone asked for the job to end.
    CancelRequested(JobId),
    /// The dataset is prepared and planned.
    DataPrepared {
        /// For which job.
        job: JobId,
        /// Dataset and plan.
        data: Arc<RunData>,
    },
    /// The dataset could not be prepared.
    DataFailed {
        /// For which job.
        job: JobId,
        /// What failed, the values, the remedy.
        message: String,
    },
    /// A worker introduced itself.
    Registered {
        /// What it says.
        hello: Hello,
        /// Where it was seen to come from.
        ip: IpAddr,
    },
    /// A worker opened its session.
    Attached(WorkerId),
    /// A worker's session ended.
    SessionLost {
        /// Whose.
        worker: WorkerId,
        /// Why.
        cause: String,
    },
    /// A worker said something.
    Reported {
        /// Who.
        worker: WorkerId,
        /// What.
        event: wire::Event,
    },
    /// The commit record of a step is on disk.
    LedgerDurable {
        /// Of which job.
        job: JobId,
        /// Of which step.
        step: Step,
    },
    /// The commit record of a step could not be written.
    LedgerFailed {
        /// Of which job.
        job: JobId,
        /// Of which step.
        step: Step,
        /// What the disk said.
        message: String,
    },
    /// The coordinator is to end.
    ShutdownRequested {
        /// Why.
        reason: String,
    },
    /// Time passed.
    Tick,
}
