//! How a worker process ends.

use std::fmt;

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerExit {
    /// The coordinator let it go.
    Dismissed {
        /// Why.
        reason: String,
    },
    /// It was told to stop, and stopped.
    Left,
    /// The coordinator did not take it.
    Refused {
        /// Why, and what to do.
        message: String,
    },
    /// No coordinator was found.
    Unreachable {
        /// Where, for how long, and why not.
        message: String,
    },
    /// The session ended, and no other could be opened in time.
    CoordinatorLost {
        /// What happened, and what to do.
        message: String,
    },
    /// Its training thread does not get on.
    Hung {
        /// At what, for how long, and what to do.
        message: String,
    },
    /// The worker itself broke.
    Broken {
        /// What happened.
        message: String,
    },
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dismissed { reason } => write!(f, "dismissed by the coordinator: {reason}"),
            Self::Left => f.write_str("left as told"),
            Self::Refused { message } => write!(f, "refused by the coordinator: {message}"),
            Self::Unreachable { message } => write!(f, "no coordinator: {message}"),
            Self::CoordinatorLost { message } => write!(f, "lost the coordinator: {message}"),
            Self::Hung { message } => write!(f, "worker hangs: {message}"),
            Self::Broken { message } => write!(f, "worker broke: {message}"),
        }
    }
}
