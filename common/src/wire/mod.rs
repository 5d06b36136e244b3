//! What coordinator and worker say to each other, as validated types; the only place that turns them into protobuf
//! messages and back.
//!
//! [`Event`] goes from worker to coordinator, [`Command`] the other way. Both sides' state machines know only these.

mod command;
mod convert;
mod event;
mod hello;
mod report;

pub use command::{
    CheckpointRef, Command, Commit, DatasetFile, DatasetRef, EndJob, FetchState, FormEpoch, Lease,
    LeasedSlot, Member, Prepare, Reject, RejectReason, Restore, Settle, TakeCheckpoint, Update,
    Verdict,
};
pub use convert::{WireError, register_reply, registered};
pub use event::{
    AppliedReport, CheckpointFailed, CheckpointWritten, Event, Heartbeat, HeldSlot, HeldSum,
    Holding, ReducedReport, SlotDone, SyncFailed, WorkerFailed,
};
pub use hello::{Attach, Hello, Refusal, Welcome, WorkerFacts};
pub use report::{EngineInfo, ErrorKind, MemoryReport, SlotOutcome, SumHealth};

use std::fmt;

use crate::id::{Epoch, JobId, Step, Term};

/// Version of the protocol; both sides must speak the same one.
pub const PROTOCOL_VERSION: u32 = 2;

/// weft's version; both sides must run the same one, since both compute the same trajectory.
pub const WEFT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// One generation of a job's members under one incarnation of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The job.
    pub job: JobId,
    /// Incarnation of the coordinator.
    pub term: Term,
    /// Generation of the members; 0 before the first one was formed.
    pub epoch: Epoch,
}

impl Membership {
    /// One attempt of these members at `step`.
    #[must_use]
    pub fn round(&self, step: Step) -> Round {
        Round {
            membership: self.clone(),
            step,
        }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} term {} epoch {}", self.job, self.term, self.epoch)
    }
}

/// One attempt of one membership at one step: what every report of work is fenced by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Who.
    pub membership: Membership,
    /// The step.
    pub step: Step,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} step {}", self.membership, self.step)
    }
}
