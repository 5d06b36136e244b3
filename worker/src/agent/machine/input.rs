//! What happens to a worker.

use std::path::PathBuf;
use std::time::Duration;

use weft_common::id::{JobId, Term, WorkerId};
use weft_common::wire::{Command, Membership};

use crate::agent::order::{Answer, StateCopy};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The session that [`Action::Connect`](super::Action::Connect) asked for is open.
    Connected {
        /// The coordinator's incarnation.
        term: Term,
    },
    /// It could not be opened.
    ConnectFailed(ConnectFailure),
    /// The session ended, for this reason.
    SessionLost(String),
    /// The worker has been without a session for as long as it may.
    CoordinatorOverdue {
        /// How long.
        waited: Duration,
    },
    /// The coordinator said something.
    Command(Command),
    /// The training thread answered.
    Answer(Answer),
    /// The job's dataset is on this host, or cannot be.
    Dataset {
        /// Whose.
        job: JobId,
        /// Its folder, or why not.
        found: Result<PathBuf, String>,
    },
    /// The state of a peer is on this host, or cannot be.
    Copied {
        /// The membership that asked for it.
        membership: Membership,
        /// Whose state.
        source: WorkerId,
        /// The copy, or why not.
        found: Result<StateCopy, String>,
    },
    /// The process was told to stop.
    StopRequested,
    /// A worker that asked to be let go has waited long enough.
    LeaveOverdue,
    /// The training thread ended.
    ThreadLost,
}

/// Why a session could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nobody was reached: the coordinator heard nothing of this attempt.
    Unreachable {
        /// Where, and why not.
        message: String,
    },
    /// The attempt failed after the coordinator was reached, which may have noted the session, or was one whose term is
    /// over.
    Lost {
        /// Its term, as far as it was heard.
        term: Option<Term>,
        /// What happened.
        message: String,
    },
    /// This session is taken.
    Duplicate {
        /// The coordinator's words.
        message: String,
    },
    /// The coordinator is about to end.
    ShuttingDown {
        /// The coordinator's words.
        message: String,
    },
    /// The coordinator will not take this worker.
    Refused {
        /// The coordinator's words.
        message: String,
    },
}
