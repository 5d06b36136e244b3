//! Sums of GPU memory over NCCL, beside a ring.
//!
//! Members form a ring first. Over it they agree whether all of them can use NCCL (`agreement`), hand round the id of a
//! communicator, form it, and agree once more that every one of them has it; else all of them sum through the ring
//! ([`form()`]). The coordinator has no part in that.
//!
//! ```text
//!   ring formed ─▶ offers ─▶ id of rank 0 ─▶ communicator ─▶ "all have it" ─▶ sums over NCCL
//!                    └───────────┴───────────────┴──────────── no ──────────▶ sums over the ring
//! ```
//!
//! The ring stays open: while NCCL is waited for, a neighbour that hangs up is noticed, which NCCL on one machine never
//! does. Nothing of NCCL blocks but the abort of a [`Communicator`], which has a watchdog that ends the process.
//!
//! Members are processes. Between GPUs of one process NCCL reads its neighbours' buffers in place, which memory allocated
//! in the order of a stream does not allow, unless it is told `NCCL_P2P_DIRECT_DISABLE=1`.

mod abort;
mod agreement;
mod aside;
mod communicator;
mod form;
mod link;
mod poll;
#[cfg(test)]
mod stub;
mod sums;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use abort::HUNG_EXIT_CODE;
pub use communicator::{Communicator, Seat, Watch};
pub use form::form;
pub use link::{GpuId, GpuLink, GpuStream, Mark};
pub use sums::GpuSums;

#[cfg(test)]
pub(crate) use stub::Stub;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Forming a communicator, and each sum beside the time that its bytes take at 10 MB/s.
    pub nccl: Duration,
    /// Hearing of each other over the ring, beside the time that NCCL may take.
    pub ring: Duration,
    /// Aborting a communicator; the process ends then.
    pub abort: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            nccl: Duration::from_secs(30),
            ring: Duration::from_secs(10),
            abort: Duration::from_secs(10),
        }
    }
}
