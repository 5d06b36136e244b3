//! What happens to the engine.

use std::net::IpAddr;
use std::sync::Arc;

use weft_common::id::{JobId, Step, Term, WorkerId};
use weft_common::wire::{self, Hello, Holding};

use super::job::RunData;
use super::terms::{Continued, JobTerms};

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
        /// Where its ledger ends, if the job goes on there.
        continued: Option<Continued>,
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
    /// Someone wants another number of workers for the job.
    ScaleRequested {
        /// Which job.
        job: JobId,
        /// How many.
        workers: u32,
    },
    /// Someone wants a worker to be let go.
    DrainRequested(WorkerId),
    /// There is nothing left to compute: everybody who is here or comes later is sent home.
    Retired {
        /// What they are told.
        reason: String,
    },
    /// A worker opened its session.
    Attached {
        /// Who.
        worker: WorkerId,
        /// Which session of it.
        session: u32,
        /// What it comes back with.
        holding: Option<Box<Holding>>,
    },
    /// A worker's session ended.
    SessionLost {
        /// Whose.
        worker: WorkerId,
        /// Which session of it.
        session: u32,
        /// Why.
        cause: String,
    },
    /// A worker said something.
    Reported {
        /// Who.
        worker: WorkerId,
        /// In which session.
        session: u32,
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
    /// Another coordinator has taken the ledger over: nothing that this one writes counts any more.
    LedgerFenced {
        /// Of which job.
        job: JobId,
        /// The term of the other one.
        by: Term,
    },
    /// The coordinator is to end.
    ShutdownRequested {
        /// Why.
        reason: String,
    },
    /// Time passed.
    Tick,
}
