//! Jobs and workers as people see them from outside.

mod job;
mod worker;

pub(crate) use job::Standing;
pub use job::{JobPhase, JobView};
pub use worker::WorkerView;

#[cfg(test)]
pub(crate) use job::tests;
