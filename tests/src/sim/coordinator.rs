//! A coordinator process: the real engine, and what its driver remembers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_common::id::{Step, Term, WorkerId};
use weft_common::ledger::CommitRecord;
use weft_common::time::Timestamp;
use weft_coordinator::engine::{Continued, Engine, Limits};

use super::network::ConnectionId;

/// A coordinator process.
#[derive(Debug)]
pub(super) struct Coordinator {
    /// Counts coordinator processes.
    pub(super) start: u64,
    pub(super) term: Term,
    pub(super) engine: Engine,
    /// Where the ledger ended when it started.
    pub(super) continued: Option<Continued>,
    began: Duration,
    /// It does not run before.
    pub(super) paused_until: Duration,
    /// The newest session of each worker.
    pub(super) sessions: BTreeMap<WorkerId, (u32, ConnectionId)>,
    /// What its ledger thread has still to write, in order.
    pub(super) writes: VecDeque<Write>,
    /// When the last of it is done.
    pub(super) written_by: Duration,
}

/// An order to the ledger thread.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Append(Box<CommitRecord>),
    Rewind(Step),
}

impl Coordinator {
    pub(super) fn new(start: u64, term: Term, now: Duration, continued: Option<Continued>) -> Self {
        Self {
            start,
            term,
            engine: Engine::new(term, Limits::default()),
            continued,
            began: now,
            paused_until: Duration::ZERO,
            sessions: BTreeMap::new(),
            writes: VecDeque::new(),
            written_by: Duration::ZERO,
        }
    }

    /// The moment on its own clock.
    pub(super) fn clock(&self, now: Duration) -> Timestamp {
        Timestamp::after_start(now.saturating_sub(self.began))
    }
}
