//! The worker's side of the protocol.
//!
//! The driver of [`run_worker`] selects one input at a time, gives it to the pure [`machine`] and performs what that
//! decides: sessions with the coordinator, orders to the training thread, copies of a peer's state. An [`Engine`] and its
//! collective live on the training thread, never in the async pool. The worker's state is served to its peers as long as
//! it runs.

mod driver;
mod engine;
mod exit;
mod fetch;
pub mod machine;
mod order;
mod peer;
mod session;
mod setup;
mod surroundings;
#[cfg(test)]
mod testing;
mod thread;
mod tokens;
mod trainer;
mod watchdog;

pub use driver::{run_worker, run_worker_within};
pub use engine::{
    Applied, Engine, EngineError, EngineInfo, ErrorKind, MemoryReport, Reduced, SlotOutcome,
    Snapshot, SnapshotFiles, SnapshotMeta, SumHealth,
};
pub use exit::WorkerExit;
pub use order::{Answer, Loading, Order, StateCopy};
pub use setup::{EngineFactory, JobSetup, WorkerConfig};
pub use surroundings::{CopyState, Dial, Surroundings, Trainer};
