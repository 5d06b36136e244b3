//! The shared memory through which NCCL's processes of one machine talk.

use std::fmt;
use std::path::Path;

use rustix::fs::statvfs;
use serde::Serialize;

use crate::output::figures::gib;

const PATH: &str = "/dev/shm";

/// NVIDIA's advice for containers. Connections to many peers take some hundred megabytes; what crashes leave behind
/// stays until it is removed.
const ENOUGH: u64 = 1 << 30;

/// How much shared memory there is, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SharedMemory {
    size_bytes: u64,
    free_bytes: u64,
}

impl SharedMemory {
    /// This machine's; nothing where it has none.
    pub(super) fn look() -> Option<Self> {
        let found = statvfs(Path::new(PATH)).ok()?;
        Some(Self {
            size_bytes: found.f_blocks * found.f_frsize,
            free_bytes: found.f_bavail * found.f_frsize,
        })
    }

    /// What will fail, and the remedy; for a machine without shared memory too.
    pub(super) fn warning(found: Option<&Self>) -> Option<String> {
        let Some(Self {
            size_bytes,
            free_bytes,
        }) = found
        else {
            return Some(format!(
                "there is no {PATH}, which NCCL needs where GPUs have no direct link; {REMEDY}"
            ));
        };
        if *size_bytes < ENOUGH {
            let size = gib(*size_bytes);
            return Some(format!(
                "{PATH} has {size:.2} GiB, and NCCL should have 1 GiB; {REMEDY}"
            ));
        }
        (*free_bytes < ENOUGH).then(|| {
            let free = gib(*free_bytes);
            format!(
                "{PATH} has {free:.2} GiB left, and NCCL should have 1 GiB; processes that were killed leave files there: \
                 remove {PATH}/nccl-* while nothing trains"
            )
        })
    }
}

const REMEDY: &str = "in Docker give --shm-size=1g or --ipc=host, in Kubernetes mount an emptyDir with medium: Memory at \
                      /dev/shm";

impl fmt::Display for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, free) = (gib(self.size_bytes), gib(self.free_bytes));
        writeln!(f, "{:<9}{size:.2} GiB, {free:.2} GiB free", PATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(size_bytes: u64, free_bytes: u64) -> Option<String> {
        SharedMemory::warning(Some(&SharedMemory {
            size_bytes,
            free_bytes,
        }))
    }

    #[test]
    fn what_containers_have_is_too_little() {
        let said = warning(64 << 20, 64 << 20).unwrap();
        for part in ["0.06 GiB", "--shm-size=1g", "emptyDir"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(warning(1 << 30, 1 << 30), None);
        assert!(SharedMemory::warning(None).is_some());
    }

    #[test]
    fn what_crashed_processes_left_is_named() {
        let said = warning(8 << 30, 1 << 20).unwrap();
        assert!(said.contains("/dev/shm/nccl-*"), "{said}");
    }
}
