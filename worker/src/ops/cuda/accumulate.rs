//! Exact gradient sums on the device.

use std::ops::Range;

use cudarc::driver::{CudaSlice, DeviceRepr, PushKernelArg, ValidAsZeroBits};
use weft_common::sum_digest::SumDigest;

use super::digest::DeviceBytes;
use super::{Array, CudaKernels, Memory, blocks, count};
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
// SAFETY: four integers; 0 is one.
unsafe impl ValidAsZeroBits for DeviceDigest {}

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
    sums: Array<i64>,
    partial: CudaSlice<DeviceDigest>,
    slot: CudaSlice<DeviceDigest>,
    /// Of micro-batches that have ended; the current one's are in its digest.
    flags: Flags,
}

impl DeviceSums {
    /// The sums.
    #[must_use]
    pub fn sums(&self) -> &CudaSlice<i64> {
        &self.sums
    }

    /// The sums, to be replaced by those of all members.
    pub(super) fn sums_mut(&mut self) -> &mut Array<i64> {
        &mut self.sums
    }

    /// Where they lie.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.sums.memory()
    }

    /// Bytes of device memory that the sums take.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        match self.sums.memory() {
            Memory::Device => self.sums.num_bytes(),
            Memory::Host => 0,
        }
    }
}

impl CudaKernels {
    /// Sums of `len` elements, 0.
    ///
    /// # Errors
    /// The driver's.
    pub fn new_sums(&self, memory: Memory, len: usize) -> Result<DeviceSums, GpuError> {
        let failed = self.during("making room for gradient sums");
        let stream = self.gpu.stream();
        let none = vec![DeviceDigest::default(); PARTIALS as usize];
        Ok(DeviceSums {
            sums: self.zeros(memory, len)?,
            partial: stream.clone_htod(&none).map_err(&failed)?,
            slot: stream.clone_htod(&none[..1]).map_err(&failed)?,
            flags: Flags::default(),
        })
    }

    /// Adds `len` gradients, each times `unscale`, to the sums from `offset` on, and to the micro-batch's digest.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If they reach beyond the sums, or offset or length is no multiple of 4.
    pub fn accumulate(
        &self,
        (offset, len): (usize, usize),
        (grads, unscale): (&CudaSlice<f32>, f32),
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
        launch.arg(grads).arg(&unscale).arg(&offset).arg(&len);
        launch.arg(&mut *into.sums).arg(&mut into.partial);
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
        let digest = self.read_slot(sums)?;
        self.gpu
            .stream()
            .memset_zeros(&mut sums.slot)
            .map_err(self.during("emptying a digest"))?;
        sums.flags += digest.flags();
        Ok(digest)
    }

    /// Forgets everything that was added.
    ///
    /// # Errors
    /// The driver's.
    pub fn clear_sums(&self, sums: &mut DeviceSums) -> Result<(), GpuError> {
        let failed = self.during("clearing gradient sums");
        let stream = self.gpu.stream();
        stream.memset_zeros(&mut *sums.sums).map_err(&failed)?;
        stream.memset_zeros(&mut sums.slot).map_err(&failed)?;
        sums.flags = Flags::default();
        Ok(())
    }

    /// Adds all that `staged` holds, its digest and flags too, and empties it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If they differ in length, or it is odd.
    pub fn absorb_sums(
        &self,
        into: &mut DeviceSums,
        staged: &mut DeviceSums,
    ) -> Result<(), GpuError> {
        let len = into.sums.len();
        assert!(
            staged.sums.len() == len && len.is_multiple_of(2),
            "{} staged sums for {len}",
            staged.sums.len()
        );
        let grid = self.strided_grid((len / 2).max(1), 256);
        let len = len as u64;
        let mut launch = self.gpu.stream().launch_builder(&self.absorb_sums);
        launch.arg(&mut *into.sums).arg(&mut *staged.sums);
        launch.arg(&len);
        launch.arg(&mut into.slot).arg(&mut staged.slot);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(grid) }.map_err(self.during("absorb_sums"))?;
        into.flags += std::mem::take(&mut staged.flags);
        Ok(())
    }

    /// The digest of the sums as they lie, with the flags of everything added since they were cleared. Waits for the
    /// device.
    ///
    /// # Errors
    /// The driver's.
    pub fn digest_of_sums(&self, sums: &DeviceSums) -> Result<SumDigest, GpuError> {
        let mut flags = sums.flags;
        flags += self.read_slot(sums)?.flags();
        let digests = self.digest_words(&[DeviceBytes::of(&sums.sums)])?;
        let digest: SumDigest = digests.into_iter().sum();
        Ok(digest.with_flags(flags))
    }

    /// A part of the sums. Waits for the device.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn download_sums(
        &self,
        sums: &DeviceSums,
        range: Range<usize>,
    ) -> Result<Vec<i64>, GpuError> {
        let failed = self.during("reading gradient sums");
        let stream = self.gpu.stream();
        let part = stream.clone_dtoh(&sums.sums.slice(range));
        let part = part.map_err(&failed)?;
        stream.synchronize().map_err(&failed)?;
        Ok(part)
    }

    /// Replaces a part of the sums, such as with the sums of all members. Digest and flags stay as they are.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not so many, or values for another number of them.
    pub fn upload_sums(
        &self,
        sums: &mut DeviceSums,
        range: Range<usize>,
        values: &[i64],
    ) -> Result<(), GpuError> {
        assert_eq!(values.len(), range.len(), "values for sums {range:?}");
        let mut part = sums.sums.slice_mut(range);
        self.gpu
            .stream()
            .memcpy_htod(values, &mut part)
            .map_err(self.during("replacing gradient sums"))
    }

    fn read_slot(&self, sums: &DeviceSums) -> Result<SumDigest, GpuError> {
        let failed = self.during("reading a digest");
        let stream = self.gpu.stream();
        let digest = stream.clone_dtoh(&sums.slot).map_err(&failed)?;
        stream.synchronize().map_err(&failed)?;
        Ok(digest[0].into())
    }
}
