//! What loading took.

use std::path::Path;
use std::time::Duration;

use super::digest::file_bytes;
use super::error::LoadError;

/// Memory and time of one load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReport {
    /// Bytes of the model's files.
    pub file_bytes: u64,
    /// Bytes of memory that the weights hold.
    pub weight_bytes: u64,
    /// Wall-clock time, the digest included.
    pub elapsed: Duration,
    /// The process's largest resident set since it started, where the system tells.
    pub peak_resident_bytes: Option<u64>,
}

impl LoadReport {
    pub(super) fn new(
        path: &Path,
        weight_bytes: u64,
        elapsed: Duration,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            file_bytes: file_bytes(path)?,
            weight_bytes,
            elapsed,
            peak_resident_bytes: peak_resident_bytes(),
        })
    }

    /// Billions of bytes of the files a second.
    #[must_use]
    pub fn gigabytes_per_second(&self) -> f64 {
        self.file_bytes as f64 / 1e9 / self.elapsed.as_secs_f64().max(1e-9)
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
