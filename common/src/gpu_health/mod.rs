//! How a worker's GPU is, and what follows from it.
//!
//! A worker reads [`GpuHealth`] from the driver and sends it along with its signs of life. [`judge`] is asked by both
//! sides: a worker does not start on a sick GPU, and a coordinator lets a worker go whose GPU becomes sick.

mod verdict;
pub mod xid;

pub use verdict::{Concern, Sickness, Verdict, judge};

use std::fmt;
use std::time::Duration;

use self::xid::Xid;

/// Codes that are remembered of one process: more say nothing more.
pub const MOST_XIDS: usize = 16;

/// What the driver last said of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuHealth {
    /// Since when it has said nothing newer.
    pub age: Duration,
    /// Errors that it reported since the process started, each once, in the order they came; at most [`MOST_XIDS`].
    pub xids: Vec<Xid>,
    /// Memory errors that could not be corrected, since the driver was loaded or the GPU was reset.
    pub uncorrected_ecc: u64,
    /// Rows of memory that could not be replaced by spare ones.
    pub remap_failed: bool,
    /// Rows of memory that the next reset replaces by spare ones.
    pub remap_pending: bool,
    /// Why it is slower than it could be, where that means trouble.
    pub slowdown: Slowdown,
    /// Of its processor; nothing where unknown.
    pub celsius: Option<u32>,
    /// Whether it cannot be reached any more.
    pub lost: bool,
}

impl GpuHealth {
    /// Remembers an error.
    pub fn saw(&mut self, xid: Xid) {
        if !self.xids.contains(&xid) && self.xids.len() < MOST_XIDS {
            self.xids.push(xid);
        }
    }
}

/// Reasons for a lower clock that mean trouble. A limit of power that software set is none: a GPU under load meets it
/// all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slowdown {
    /// The board slowed itself down, whatever for.
    pub hardware: bool,
    /// It is too hot.
    pub thermal: bool,
    /// The power supply asked for it.
    pub power_brake: bool,
}

impl Slowdown {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The reasons: `too hot, power brake`.
impl fmt::Display for Slowdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let particular = self.thermal || self.power_brake;
        let reasons = [
            (self.thermal, "too hot"),
            (self.power_brake, "power brake"),
            (self.hardware && !particular, "hardware slowdown"),
        ];
        let reasons = reasons.iter().filter(|(is, _)| *is).map(|(_, name)| *name);
        f.write_str(&reasons.collect::<Vec<_>>().join(", "))
    }
}
