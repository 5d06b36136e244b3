//! Forward and backward, exact accumulation, optimizer.

pub mod accumulator;
pub mod fixed_point;
pub mod sum_digest;
