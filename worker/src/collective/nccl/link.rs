//! A GPU and its NCCL, as an engine offers them.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cuda::nccl::Nccl;

/// The UUID of a GPU, the same in every process and container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuId(pub [u8; 16]);

/// The stream of a GPU that sums go into. Errors are what the driver says.
pub trait GpuStream: Send + Sync + fmt::Debug {
    /// Makes its GPU the calling thread's.
    ///
    /// # Errors
    /// The driver's.
    fn make_current(&self) -> Result<(), String>;

    /// The driver's name of the stream.
    fn handle(&self) -> *mut c_void;

    /// Marks the end of the work that is in the stream now.
    ///
    /// # Errors
    /// The driver's.
    fn mark(&self) -> Result<Box<dyn Mark>, String>;
}

/// A place in a stream.
pub trait Mark {
    /// Whether the work before it is done. Does not wait.
    ///
    /// # Errors
    /// The driver's, such as of work before it.
    fn is_passed(&self) -> Result<bool, String>;
}

/// A GPU and its NCCL. Clones are the same.
#[derive(Debug, Clone)]
pub struct GpuLink {
    gpu: GpuId,
    stream: Arc<dyn GpuStream>,
    nccl: Option<Arc<Nccl>>,
    /// NCCL failed on this GPU while nobody was lost.
    failed: Arc<AtomicBool>,
}

impl GpuLink {
    /// A GPU and the stream that its sums go through, without a library.
    #[must_use]
    pub fn new(gpu: GpuId, stream: Arc<dyn GpuStream>) -> Self {
        Self {
            gpu,
            stream,
            nccl: None,
            failed: Arc::default(),
        }
    }

    /// The same GPU with a library.
    #[must_use]
    pub fn with_nccl(mut self, nccl: Arc<Nccl>) -> Self {
        self.nccl = Some(nccl);
        self
    }

    pub(super) fn gpu(&self) -> GpuId {
        self.gpu
    }

    pub(super) fn stream(&self) -> &Arc<dyn GpuStream> {
        &self.stream
    }

    pub(super) fn nccl(&self) -> Option<&Arc<Nccl>> {
        self.nccl.as_ref()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// It is not tried again in this process: each attempt would cost every new membership its deadline.
    pub(super) fn give_up(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}
