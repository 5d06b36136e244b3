//! Matrices in pinned host memory, copied beside the work.

use cudarc::driver::{CudaEvent, DriverError, PinnedHostSlice};

use super::Cuda;
use crate::cuda::GpuError;
use crate::ops::cuda::Halves;

/// A matrix in pinned host memory, rows as they lie on the device.
pub struct HostStore {
    memory: PinnedHostSlice<u16>,
    /// The last copy's end.
    copied: CudaEvent,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the device.
    Out,
    /// To the device.
    In,
}

impl Cuda {
    pub(super) fn make_store(&self, rows: usize, width: usize) -> Result<HostStore, GpuError> {
        let stride = self.stride(&[width]);
        let failed = self.kernels.during("pinning host memory");
        let context = self.kernels.gpu().stream().context();
        // SAFETY: integers have no invalid bits; contents are unspecified until the first copy, as for any buffer.
        let memory = unsafe { context.alloc_pinned(rows * stride) }.map_err(&failed)?;
        Ok(HostStore {
            memory,
            copied: context.new_event(None).map_err(failed)?,
        })
    }

    /// Copies `rows` rows on the stream of copies, after the work that was asked for so far.
    pub(super) fn copy_store(
        &self,
        rows: usize,
        halves: &Halves,
        store: &mut HostStore,
        way: Way,
    ) -> Result<(), GpuError> {
        let failed = self.kernels.during("copying between host and GPU");
        let bytes = 2 * rows * halves.stride();
        let held = store.memory.num_bytes();
        assert!(
            held >= bytes && halves.rows() >= rows && halves.is_first(),
            "{rows} rows of {} and a store of {held} bytes",
            halves.rows(),
        );
        let host = store.memory.as_mut_ptr().map_err(&failed)?;
        let ready = self.kernels.gpu().stream().record_event(None);
        self.copies
            .wait(&ready.map_err(&failed)?)
            .map_err(&failed)?;
        let (device, stream) = (halves.address(), self.copies.cu_stream());
        // SAFETY: both sides hold so many bytes, and whoever writes one of them first waits for `copied`.
        let copied: Result<(), DriverError> = unsafe {
            use cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
            let host = std::slice::from_raw_parts_mut(host.cast::<u8>(), bytes);
            match way {
                Way::Out => memcpy_dtoh_async(host, device, stream),
                Way::In => memcpy_htod_async(device, host, stream),
            }
        };
        copied.map_err(&failed)?;
        store.copied.record(&self.copies).map_err(failed)
    }

    /// Work after this comes after the store's last copy.
    pub(super) fn settle_store(&self, store: &HostStore) -> Result<(), GpuError> {
        self.kernels
            .gpu()
            .stream()
            .wait(&store.copied)
            .map_err(self.kernels.during("waiting for a copy"))
    }
}
