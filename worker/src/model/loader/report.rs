//! What loading took.

use std::time::Duration;

use crate::model::ModelWeights;

/// Memory and time of one load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReport {
    /// Bytes of host memory that the weights hold.
    pub weight_bytes: u64,
    /// Wall-clock time, the digest included.
    pub elapsed: Duration,
    /// The process's largest resident set since it started, where the system tells.
    pub peak_resident_bytes: Option<u64>,
}

impl LoadReport {
    pub(super) fn new(weights: &ModelWeights, elapsed: Duration) -> Self {
        Self {
            weight_bytes: weights.bytes() as u64,
            elapsed,
            peak_resident_bytes: peak_resident_bytes(),
        }
    }
}

/// `VmHWM` of Linux.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
