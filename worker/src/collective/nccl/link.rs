//! A GPU and its NCCL, as an engine offers them.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tracing::debug;

use super::aside::Aside;
use super::{Communicator, Deadlines, Seat, Watch};
use crate::collective::{Cancel, CollectiveError};
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
    /// Ends last.
    aside: Arc<Aside>,
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
            aside: Arc::default(),
        }
    }

    /// The same GPU with a library.
    #[must_use]
    pub fn with_nccl(mut self, nccl: Arc<Nccl>) -> Self {
        self.nccl = Some(nccl);
        self
    }

    /// Gets the library ready on a thread of its own, for one who is about to join others: what it does for a process's first
    /// communicator takes longer than the communicator.
    pub fn get_ready(&self) {
        let Some(nccl) = self.nccl.clone() else {
            return;
        };
        let stream = Arc::clone(&self.stream);
        self.aside.run(move || {
            let start = Instant::now();
            match alone(&nccl, &stream) {
                Ok(()) => debug!(seconds = start.elapsed().as_secs_f64(), "NCCL is ready"),
                // Who joins hears of it again, and says what follows.
                Err(error) => debug!(%error, "NCCL does not get ready"),
            }
        });
    }

    pub(super) fn aside(&self) -> &Arc<Aside> {
        &self.aside
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

/// Forms a communicator of one, which stays to the end of the process: its end would hold up the sums of those that were formed
/// meanwhile, for over a second.
fn alone(nccl: &Arc<Nccl>, stream: &Arc<dyn GpuStream>) -> Result<(), CollectiveError> {
    let refused = |said| CollectiveError::Nccl {
        doing: "making an id for a communicator of NCCL",
        said,
        library: nccl.to_string(),
    };
    let seat = Seat {
        id: nccl.unique_id().map_err(refused)?,
        rank: 0,
        world: 1,
    };
    let watch = Watch {
        cancel: &Cancel::new(),
        neighbours: None,
    };
    let formed = Communicator::form((nccl, stream), seat, Deadlines::default(), &watch);
    formed.map(Communicator::leave)
}
