//! The GPU as sums over NCCL need it.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError};
use tracing::{debug, warn};

use super::{Cuda, CudaKernels};
use crate::collective::GpuLink;
use crate::collective::nccl::{GpuId, GpuStream, Mark};
use crate::cuda::GpuError;
use crate::cuda::library::Missing;
use crate::cuda::nccl::Nccl;

/// The stream that all work goes through, so that a sum comes after what it adds.
#[derive(Debug)]
struct WorkStream(Arc<CudaStream>);

impl GpuStream for WorkStream {
    fn make_current(&self) -> Result<(), String> {
        self.0.context().bind_to_thread().map_err(said)
    }

    fn handle(&self) -> *mut c_void {
        self.0.cu_stream().cast()
    }

    fn mark(&self) -> Result<Box<dyn Mark>, String> {
        let event = self.0.record_event(None).map_err(said)?;
        Ok(Box::new(Event(event)))
    }
}

struct Event(CudaEvent);

impl Mark for Event {
    fn is_passed(&self) -> Result<bool, String> {
        self.0.try_is_complete().map_err(said)
    }
}

fn said(error: DriverError) -> String {
    format!("{error:?}")
}

/// The GPU of these kernels, without a library.
pub(super) fn link_of(kernels: &CudaKernels) -> Result<GpuLink, GpuError> {
    link_over(kernels.gpu().stream()).map_err(kernels.during("asking for its UUID"))
}

/// A stream's GPU, without a library.
pub(crate) fn link_over(stream: &Arc<CudaStream>) -> Result<GpuLink, DriverError> {
    let id = GpuId(
        stream
            .context()
            .uuid()?
            .bytes
            .map(|byte| byte.to_ne_bytes()[0]),
    );
    Ok(GpuLink::new(id, Arc::new(WorkStream(Arc::clone(stream)))))
}

impl Cuda {
    /// With a library to sum over GPUs with; without one, sums go through host memory.
    #[must_use]
    pub fn with_nccl(mut self, nccl: Result<Nccl, Missing>) -> Self {
        match nccl {
            Ok(nccl) => {
                if let Some(warning) = nccl.warning() {
                    warn!(library = %nccl, "{warning}");
                }
                self.link = self.link.clone().with_nccl(Arc::new(nccl));
            }
            Err(missing) => debug!(%missing, "sums over several GPUs would go through host memory"),
        }
        self
    }
}
