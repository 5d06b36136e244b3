//! Measures training steps as a job runs them, against what the device could do.
//!
//! ```text
//! settings ─▶ trainer (random weights, rows of random tokens) ─▶ steps: compute_slot × n, reduce, apply ─▶ times
//!                                                                                              │
//! cost (FLOPs and bytes, from shapes alone) ÷ rates (measured on the same device, before) = floor ─▶ share
//! ```
//!
//! Generation is measured beside that, against what reading the weights takes. [`Measured`] is all that a backend adds to be measured; [`cost`] is the formula.

pub mod cost;
mod cuda;
mod floor;
mod generate;
mod rates;
mod reduce;
mod report;
mod resident;
mod rows;
mod run;
pub mod scaling;
mod settings;

pub use floor::{FloorSeconds, Rates};
pub use generate::{GenerateReport, GenerateSettings, measure_generation};
pub use rates::Measured;
pub use reduce::{
    Former, GpuMemory, HostMemory, Memory as SummedMemory, ReduceError, ReduceReport,
    ReduceSettings, SumTimes, measure_reduce,
};
pub use report::{Memory, Spread, StepReport};
pub use run::{BenchError, StepDone, measure_step};
pub use settings::{BenchModel, StepSettings};
