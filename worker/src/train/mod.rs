//! Forward and backward, exact accumulation, optimizer.

pub mod accumulator;
pub mod fixed_point;
pub mod optimizer;
pub mod session;

mod batch;
mod loss;
mod memory_plan;
mod pass;

pub use batch::PackedBatch;
pub use loss::SlotLoss;
pub use memory_plan::MemoryPlan;
pub use pass::{GradSink, Pass, PassError};
