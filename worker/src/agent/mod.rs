//! The worker's side of the protocol: a pure machine, its session and its driver.

mod engine;
mod setup;

pub use engine::{
    Applied, Engine, EngineError, EngineInfo, ErrorKind, MemoryReport, Reduced, SlotOutcome,
    Snapshot, SnapshotFiles, SnapshotMeta, SumHealth,
};
pub use setup::{EngineFactory, JobSetup, WorkerConfig};
