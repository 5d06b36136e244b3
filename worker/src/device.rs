//! Where a job is computed.

use std::fmt;
use std::path::PathBuf;

use crate::cuda::GpuFacts;

/// A device that jobs are computed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The host's processors.
    Cpu {
        /// Compute threads.
        threads: usize,
        /// The host's memory; 0 where unknown.
        memory_bytes: u64,
    },
    /// A GPU.
    Cuda {
        /// Which.
        gpu: GpuFacts,
        /// Where its compiled kernels are kept.
        kernels: PathBuf,
    },
}

impl Device {
    /// Bytes of its memory; 0 where unknown.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::Cpu { memory_bytes, .. } => *memory_bytes,
            Self::Cuda { gpu, .. } => gpu.memory_bytes,
        }
    }
}

/// For people: `cpu (2 threads)`, `NVIDIA H200`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { threads, .. } => {
                let s = if *threads == 1 { "" } else { "s" };
                write!(f, "cpu ({threads} thread{s})")
            }
            Self::Cuda { gpu, .. } => f.write_str(&gpu.name),
        }
    }
}
