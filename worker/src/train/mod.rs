//! Forward and backward, exact accumulation, optimizer.

pub mod accumulator;
mod backend;
mod cpu;
pub mod fixed_point;
pub mod optimizer;
pub mod session;

mod batch;
mod loss;
mod loss_scale;
mod memory_plan;
mod pass;
mod residual;
mod room;

pub use backend::{Backend, StepScalars};
pub use batch::PackedBatch;
pub use cpu::{CpuSums, cpu_for_job};
pub use loss::SlotLoss;
pub use loss_scale::LossScale;
pub use memory_plan::{MemoryPlan, PassShape};
pub use pass::{GradSink, Pass, PassError};
pub use room::{NoRoom, for_peers, spare};
