//! The worker's side of the protocol.
//!
//! [`run_worker`] opens a session, then its driver selects one input at a time, gives it to the pure `machine` and
//! performs what that decides. An [`Engine`] and its collective live on a training thread of their own, never in the
//! async pool.

mod driver;
mod engine;
mod exit;
mod fetch;
mod machine;
mod order;
mod session;
mod setup;
mod thread;

pub use driver::run_worker;
pub use engine::{
    Applied, Engine, EngineError, EngineInfo, ErrorKind, MemoryReport, Reduced, SlotOutcome,
    Snapshot, SnapshotFiles, SnapshotMeta, SumHealth,
};
pub use exit::WorkerExit;
pub use setup::{EngineFactory, JobSetup, WorkerConfig};
