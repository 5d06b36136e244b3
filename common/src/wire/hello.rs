//! How a worker introduces itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Holding;
use crate::id::{Term, WorkerId};

/// A worker process introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// This process start.
    pub worker: WorkerId,
    /// The worker's version of weft.
    pub weft_version: String,
    /// The worker's version of the protocol.
    pub protocol_version: u32,
    /// Sessions that this process opened before; one that comes back counts on from the last.
    pub session: u32,
    /// What people want to know of it.
    pub facts: WorkerFacts,
}

/// The first event of a session: names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attach {
    /// This process start.
    pub worker: WorkerId,
    /// The coordinator's incarnation, from its [`Welcome`].
    pub term: Term,
    /// The session that [`Hello`] named.
    pub session: u32,
    /// What the worker holds of a job, if it comes back with one.
    pub holding: Option<Holding>,
}

/// What people want to know of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Host name.
    pub host: String,
    /// Device: `cpu (2 threads)`, `NVIDIA H200`.
    pub device: String,
    /// Memory of the device; 0 where unknown.
    pub memory_bytes: u64,
    /// What its owner calls it by, for jobs that ask for it: `gpu=h200`.
    pub labels: BTreeMap<String, String>,
}

/// The worker is known and may attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Incarnation of the coordinator.
    pub term: Term,
    /// How often the worker sends a heartbeat.
    pub heartbeat_every: Duration,
}

/// Why a worker was not taken. The text carries the values and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another version of weft.
    #[error(
        "worker runs weft {worker}, coordinator runs weft {coordinator}; install the same version on both"
    )]
    WeftVersion {
        /// The worker's.
        worker: String,
        /// The coordinator's.
        coordinator: String,
    },
    /// Another version of the protocol.
    #[error(
        "worker speaks protocol {worker}, coordinator speaks protocol {coordinator}; install the same weft version on both"
    )]
    ProtocolVersion {
        /// The worker's.
        worker: u32,
        /// The coordinator's.
        coordinator: u32,
    },
    /// The same session of the same incarnation registered before.
    #[error("session {session} of worker {worker} registered before; restart the worker process")]
    Duplicate {
        /// The incarnation.
        worker: WorkerId,
        /// The session.
        session: u32,
    },
    /// As many workers as the coordinator can hold.
    #[error("coordinator holds {limit} workers, its limit; stop some or start another coordinator")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The coordinator shuts down.
    #[error("coordinator is shutting down; start the worker again once it is back")]
    ShuttingDown,
    /// A field is missing or not of its kind.
    #[error("malformed hello: {0}")]
    Malformed(String),
}
