//! Sessions come and go; what the worker holds stays.

use std::time::Duration;

use weft_common::id::Term;
use weft_common::wire::Holding;

use super::job::Job;
use super::{Action, Connect, ConnectFailure, Machine, exit};
use crate::agent::exit::WorkerExit;

/// Between attempts; a coordinator that just starts is found quickly, one that is away is not flooded.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// Where a worker stands with the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Link {
    /// The session ended, and the training thread was asked what is held.
    Settling { why: String },
    /// An attempt to open a session is under way.
    Connecting {
        pause: Duration,
        holding: Option<Box<Holding>>,
        /// What the last attempt or session ended with.
        why: String,
    },
    /// Attached.
    Open { term: Term },
}

impl Link {
    /// Before the first attempt.
    pub(super) fn first() -> Self {
        Self::Connecting {
            pause: Duration::ZERO,
            holding: None,
            why: "no attempt was answered".to_owned(),
        }
    }

    /// Before the first attempt after a session.
    fn again(why: String, holding: Option<Holding>) -> Self {
        Self::Connecting {
            pause: RETRY_FIRST,
            holding: holding.map(Box::new),
            why,
        }
    }
}

impl Machine {
    /// The term of the open session.
    pub(super) fn term(&self) -> Option<Term> {
        match self.link {
            Link::Open { term } => Some(term),
            Link::Settling { .. } | Link::Connecting { .. } => None,
        }
    }

    /// Whether the training thread was asked what is held, and has not answered.
    #[must_use]
    pub fn settles(&self) -> bool {
        matches!(self.link, Link::Settling { .. })
    }

    /// Starts the attempt that the link describes.
    pub(super) fn connect(&self) -> Vec<Action> {
        let Link::Connecting { pause, holding, .. } = &self.link else {
            return Vec::new();
        };
        vec![Action::Connect(Connect {
            after: *pause,
            session: self.sessions,
            at_least: self.newest_term,
            holding: holding.clone(),
        })]
    }

    pub(super) fn connected(&mut self, term: Term) -> Vec<Action> {
        if !matches!(self.link, Link::Connecting { .. }) {
            return Vec::new();
        }
        if term < self.newest_term {
            let message = format!("the coordinator's term {term} is over");
            let term = Some(term);
            return self.connect_failed(ConnectFailure::Lost { term, message });
        }
        self.sessions += 1;
        self.newest_term = term;
        self.attached = true;
        self.link = Link::Open { term };
        Vec::new()
    }

    /// A refusal that will pass is waited out by a worker that was attached before: the coordinator may not have noticed
    /// yet that its session is gone, or be about to be replaced.
    pub(super) fn connect_failed(&mut self, failure: ConnectFailure) -> Vec<Action> {
        let Link::Connecting { pause, why, .. } = &mut self.link else {
            return Vec::new();
        };
        let message = match failure {
            ConnectFailure::Unreachable { message } => message,
            ConnectFailure::Lost { term, message } => {
                self.sessions += 1;
                self.newest_term = self.newest_term.max(term.unwrap_or_default());
                message
            }
            ConnectFailure::Duplicate { message } | ConnectFailure::ShuttingDown { message }
                if self.attached =>
            {
                self.sessions += 1;
                message
            }
            ConnectFailure::Duplicate { message }
            | ConnectFailure::ShuttingDown { message }
            | ConnectFailure::Refused { message } => {
                return exit(WorkerExit::Refused { message });
            }
        };
        *pause = (*pause * 2).clamp(RETRY_FIRST, RETRY_MOST);
        *why = message;
        self.connect()
    }

    /// A worker with a loaded job settles first. One that is still loading goes on with that, and has nothing to say.
    pub(super) fn session_lost(&mut self, why: String) -> Vec<Action> {
        if self.term().is_none() {
            return Vec::new();
        }
        if self.leaving {
            return exit(WorkerExit::Left);
        }
        tracing::warn!(why, "the session ended; looking for the coordinator");
        match &mut self.job {
            Job::None => {}
            Job::Fetching { asked, .. } | Job::Loading { asked, .. } => *asked = false,
            Job::Loaded(loaded) => {
                self.link = Link::Settling { why };
                return loaded.end_session();
            }
        }
        self.link = Link::again(why, None);
        self.connect()
    }

    pub(super) fn settled(&mut self, holding: Option<Holding>) -> Vec<Action> {
        let Link::Settling { why } = &mut self.link else {
            return Vec::new();
        };
        let why = std::mem::take(why);
        match (&holding, &mut self.job) {
            (Some(holding), Job::Loaded(loaded)) => loaded.stands(holding),
            (Some(_), Job::None | Job::Fetching { .. } | Job::Loading { .. }) | (None, _) => {
                self.job = Job::None;
            }
        }
        self.link = Link::again(why, holding);
        self.connect()
    }

    pub(super) fn coordinator_overdue(&self, waited: Duration) -> Vec<Action> {
        let seconds = waited.as_secs_f64();
        let why = match &self.link {
            Link::Open { .. } => return Vec::new(),
            Link::Settling { why } | Link::Connecting { why, .. } => why,
        };
        exit(if self.attached {
            WorkerExit::CoordinatorLost {
                message: format!(
                    "{why}; not back within {seconds:.0} s, start the worker again once it is"
                ),
            }
        } else {
            WorkerExit::Unreachable {
                message: format!(
                    "{why}; tried for {seconds:.0} s, check that the coordinator runs and the address is right"
                ),
            }
        })
    }
}
