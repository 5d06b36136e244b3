//! Exact gradient sums on the device.

use cudarc::driver::{CudaSlice, DeviceRepr, PushKernelArg};
use weft_common::sum_digest::SumDigest;

use super::{CudaKernels, blocks, count};
use crate::cuda::GpuError;
use crate::train::fixed_point::Flags;

/// Partial digests at most: blocks of the accumulation.
const PARTIALS: u32 = 1024;

/// A digest as the kernels keep it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DeviceDigest {
    low: u64,
    high: u64,
    non_finite: u64,
    overflow: u64,
}

// SAFETY: four integers, laid out as the kernels' struct.
unsafe impl DeviceRepr for DeviceDigest {}

impl From<DeviceDigest> for SumDigest {
    fn from(digest: DeviceDigest) -> Self {
        let mixed = u128::from(digest.high) << 64 | u128::from(digest.low);
        let flags = Flags {
            non_finite: digest.non_finite,
            overflow: digest.overflow,
        };
        Self::from_parts(mixed, flags)
    }
}

/// Exact sums of a step, and the digest of what the current micro-batch added.
#[derive(Debug)]
pub struct DeviceSums {
    sums: CudaSlice<i64>,
    partial: CudaSlice<DeviceDigest>,
    slot: CudaSlice<DeviceDigest>,
}

impl DeviceSums {
    /// The sums.
    #[must_use]
    pub fn sums(&self) -> &CudaSlice<i64> {
        &self.sums
    }
}

impl CudaKernels {
    /// Sums of `len` elements, 0.
    ///
    /// # Errors
    /// The driver's.
    pub fn new_sums(&self, len: usize) -> Result<DeviceSums, GpuError> {
        let failed = self.during("making room for gradient sums");
        let stream = self.gpu.stream();
        let none = vec![DeviceDigest::default(); PARTIALS as usize];
        Ok(DeviceSums {
            sums: stream.alloc_zeros(len).map_err(&failed)?,
            partial: stream.clone_htod(&none).map_err(&failed)?,
            slot: stream.clone_htod(&none[..1]).map_err(&failed)?,
        })
    }

    /// Adds `len` gradients to the sums from `offset` on, and to the micro-batch's digest.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If they reach beyond the sums, or offset or length is no multiple of 4.
    pub fn accumulate(
        &self,
        (offset, len): (usize, usize),
        grads: &CudaSlice<f32>,
        into: &mut DeviceSums,
    ) -> Result<(), GpuError> {
        assert!(
            offset.is_multiple_of(4) && len.is_multiple_of(4),
            "{len} gradients at {offset}"
        );
        assert!(grads.len() >= len && into.sums.len() >= offset + len);
        let grid = self.strided_grid(len / 4, 256).grid_dim.0.min(PARTIALS);
        let (offset, len) = (offset as u64, len as u64);
        let mut launch = self.gpu.stream().launch_builder(&self.accumulate_fixed);
        launch.arg(grads).arg(&offset).arg(&len);
        launch.arg(&mut into.sums).arg(&mut into.partial);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(grid, 256)) }.map_err(self.during("accumulate_fixed"))?;
        let mut launch = self.gpu.stream().launch_builder(&self.sum_digests);
        let partials = count(grid as usize);
        launch.arg(&into.partial).arg(&partials).arg(&mut into.slot);
        // SAFETY: the arguments are the kernel's; there is a partial for each block.
        unsafe { launch.launch(blocks(1, 256)) }
            .map(drop)
            .map_err(self.during("sum_digests"))
    }

    /// Ends a micro-batch: the digest of everything added since the last one ended. Waits for the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn end_slot(&self, sums: &mut DeviceSums) -> Result<SumDigest, GpuError> {
        let failed = self.during("reading a digest");
        let stream = self.gpu.stream();
        let digest = stream.clone_dtoh(&sums.slot).map_err(&failed)?;
        stream
            .memcpy_htod(&[DeviceDigest::default()], &mut sums.slot)
            .map_err(&failed)?;
        stream.synchronize().map_err(&failed)?;
        Ok(digest[0].into())
    }
}
