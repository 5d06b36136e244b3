//! Arrays in device memory, or in host memory that the GPU reads and writes over the bus.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits};

use super::CudaKernels;
use crate::cuda::GpuError;

/// Where an array lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// On the device.
    Device,
    /// On the host, pinned: for what a step reads or writes once or a few times, a tenth as fast.
    Host,
}

/// An array that kernels work on, wherever it lies.
#[derive(Debug)]
pub struct Array<T>(Lying<T>);

#[derive(Debug)]
enum Lying<T> {
    Device(CudaSlice<T>),
    Host(OnHost<T>),
}

/// Pinned memory, and what the device calls it.
#[derive(Debug)]
struct OnHost<T> {
    view: ManuallyDrop<CudaSlice<T>>,
    /// Freed after the view is forgotten.
    _memory: PinnedHostSlice<T>,
}

impl<T> Drop for OnHost<T> {
    fn drop(&mut self) {
        let stream = self.view.stream().clone();
        // An error of the device was or will be met by whoever waits for results; memory is freed all the same.
        let _ = stream.synchronize();
        // SAFETY: the view is not used again.
        let view = unsafe { ManuallyDrop::take(&mut self.view) };
        // The memory is not the view's to free.
        let _ = view.leak();
    }
}

impl<T> Array<T> {
    /// Where it lies.
    #[must_use]
    pub fn memory(&self) -> Memory {
        match &self.0 {
            Lying::Device(_) => Memory::Device,
            Lying::Host(_) => Memory::Host,
        }
    }
}

impl<T> From<CudaSlice<T>> for Array<T> {
    fn from(slice: CudaSlice<T>) -> Self {
        Self(Lying::Device(slice))
    }
}

impl<T> Deref for Array<T> {
    type Target = CudaSlice<T>;

    fn deref(&self) -> &CudaSlice<T> {
        match &self.0 {
            Lying::Device(slice) => slice,
            Lying::Host(host) => &host.view,
        }
    }
}

impl<T> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut CudaSlice<T> {
        match &mut self.0 {
            Lying::Device(slice) => slice,
            Lying::Host(host) => &mut host.view,
        }
    }
}

impl CudaKernels {
    /// An array of zeros.
    ///
    /// # Errors
    /// The driver's.
    pub fn zeros<T>(&self, memory: Memory, len: usize) -> Result<Array<T>, GpuError>
    where
        T: DeviceRepr + ValidAsZeroBits + Copy + Default,
    {
        let failed = self.during("making room for an array");
        let stream = self.gpu.stream();
        match memory {
            Memory::Device => {
                let slice = stream.alloc_zeros(len).map_err(failed)?;
                Ok(slice.into())
            }
            Memory::Host => self.on_host(len, |to| to.fill(T::default())),
        }
    }

    /// An array of these values.
    ///
    /// # Errors
    /// The driver's.
    pub fn array<T>(&self, memory: Memory, values: &[T]) -> Result<Array<T>, GpuError>
    where
        T: DeviceRepr + ValidAsZeroBits + Copy,
    {
        match memory {
            Memory::Device => {
                let slice = self.gpu.stream().clone_htod(values);
                Ok(slice.map_err(self.during("uploading an array"))?.into())
            }
            Memory::Host => self.on_host(values.len(), |to| to.copy_from_slice(values)),
        }
    }

    fn on_host<T>(&self, len: usize, fill: impl FnOnce(&mut [T])) -> Result<Array<T>, GpuError>
    where
        T: DeviceRepr + ValidAsZeroBits,
    {
        let failed = self.during("pinning host memory");
        let stream: &Arc<CudaStream> = self.gpu.stream();
        // SAFETY: `T` is plain numbers, and all of the array is written next. No flags: processors read it too, when a state
        // is saved or sums are reduced.
        let memory = unsafe { stream.context().alloc_pinned_with_flags(len, 0) };
        let mut memory = memory.map_err(&failed)?;
        fill(memory.as_mut_slice().map_err(&failed)?);
        let address = memory.as_mut_ptr().map_err(failed)? as u64;
        // SAFETY: pinned memory has the same address on the device (unified addressing, on all 64-bit systems), holds
        // `len` elements, and outlives the view.
        let view = unsafe { stream.upgrade_device_ptr(address, len) };
        Ok(Array(Lying::Host(OnHost {
            view: ManuallyDrop::new(view),
            _memory: memory,
        })))
    }
}
