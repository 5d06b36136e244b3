//! Gradient sums over all members: from GPU to GPU, or through host memory.

use std::ops::Range;

use cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut};
use rayon::prelude::*;
use tracing::warn;
use weft_common::sum_digest::{Flags, SumDigest};

use super::Cuda;
use super::state::CudaSums;
use crate::agent::EngineError;
use crate::collective::{Cancel, Collective, GpuSums};
use crate::cuda::GpuError;
use crate::cuda::nccl::{DeviceSum, Element};
use crate::ops::DeviceError;
use crate::ops::cuda::{Array, DeviceBytes, DeviceSums, Memory};
use crate::train::accumulator::{BUCKET, ReducedSum};

/// Elements that members sum over NCCL at a time, and that go through the device's memory where they lie in the host's, since
/// what NCCL promises is for memory of GPUs, and it may hand the address to another GPU: 32 MB.
const PIECE: usize = 4 << 20;

impl Cuda {
    /// Sums over all members from GPU to GPU; the same bits as [`Self::reduce_through_host`] gives.
    pub(super) fn reduce_on_gpus(
        &self,
        sums: &mut CudaSums,
        gpus: &mut dyn GpuSums,
        cancel: &Cancel,
    ) -> Result<ReducedSum, EngineError> {
        let part = self.part(sums)?;
        let (own, reduced) = self.own_and_reduced(sums)?;
        let stream = self.kernels.gpu().stream();
        let failed = |error| DeviceError::from(self.kernels.during("summing flags")(error));
        let counts = [part.flags().non_finite, part.flags().overflow].map(u64::cast_signed);
        let mut counts = stream.clone_htod(&counts).map_err(failed)?;
        // SAFETY: the counts live until they are read below, after the wait; an error before that aborts the sum, or leaves
        // an allocation that is freed in the order of the stream.
        let sum = unsafe { in_place(&mut counts) };
        gpus.enqueue(&sum, cancel)?;
        self.enqueue_pieces(own, reduced, gpus, cancel)?;
        gpus.wait(cancel)?;
        let counts = stream.clone_dtoh(&counts).map_err(failed)?;
        stream.synchronize().map_err(failed)?;
        let digest = self
            .kernels
            .digest_words(&[DeviceBytes::of(reduced.sums())]);
        let digest: SumDigest = digest.map_err(DeviceError::from)?.into_iter().sum();
        let flags = flags_of(&counts);
        Ok(ReducedSum {
            digest: digest.with_flags(flags),
            part,
            flags,
        })
    }

    /// Every member cuts the sums into the same pieces, wherever they lie: one may have less memory than another.
    fn enqueue_pieces(
        &self,
        own: &DeviceSums,
        reduced: &mut DeviceSums,
        gpus: &mut dyn GpuSums,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let len = own.sums().len();
        let pieces = (0..len).step_by(PIECE);
        let mut pieces = pieces.map(|first| first..len.min(first + PIECE));
        if (own.memory(), reduced.memory()) == (Memory::Device, Memory::Device) {
            return pieces.try_for_each(|piece| {
                // SAFETY: the sums of a step outlive its collective, and nothing touches them before the wait.
                let sum = unsafe { out_of_place(own.sums(), reduced.sums_mut(), piece) };
                Ok(gpus.enqueue(&sum, cancel)?)
            });
        }
        let stream = self.kernels.gpu().stream();
        let failed = |error| DeviceError::from(self.kernels.during("moving gradient sums")(error));
        let bucket = stream.alloc_zeros::<i64>(PIECE.min(len));
        let mut bucket = bucket.map_err(failed)?;
        pieces.try_for_each(|piece| {
            let from = own.sums().slice(piece.clone());
            stream.memcpy_dtod(&from, &mut bucket).map_err(failed)?;
            // SAFETY: the bucket is freed in the order of the stream, in which all of this is.
            let sum = unsafe { in_place_of(&mut bucket, piece.len()) };
            gpus.enqueue(&sum, cancel)?;
            let summed = bucket.slice(..piece.len());
            let mut to = reduced.sums_mut().slice_mut(piece);
            Ok(stream.memcpy_dtod(&summed, &mut to).map_err(failed)?)
        })
    }

    /// Sums over all members, bucket by bucket through host memory.
    pub(super) fn reduce_through_host(
        &self,
        sums: &mut CudaSums,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<ReducedSum, EngineError> {
        let part = self.part(sums)?;
        let mut counts = [part.flags().non_finite, part.flags().overflow].map(u64::cast_signed);
        collective.all_reduce_sum(&mut counts, cancel)?;
        let flags = flags_of(&counts);
        let len = sums.len;
        let (own, reduced) = self.own_and_reduced(sums)?;
        let mut digest = SumDigest::default().with_flags(flags);
        for first in (0..len).step_by(BUCKET) {
            let range = first..len.min(first + BUCKET);
            let read = self.kernels.download_sums(own, range.clone());
            let mut bounce = read.map_err(DeviceError::from)?;
            collective.all_reduce_sum(&mut bounce, cancel)?;
            digest = digest.plus(digest_of(&bounce, first));
            let written = self.kernels.upload_sums(reduced, range, &bounce);
            written.map_err(DeviceError::from)?;
        }
        Ok(ReducedSum {
            digest,
            part,
            flags,
        })
    }

    /// What this member puts in.
    pub(super) fn part(&self, sums: &CudaSums) -> Result<SumDigest, DeviceError> {
        let part = self.kernels.digest_of_sums(sums.own.get());
        part.map_err(DeviceError::from)
    }

    /// The own sums, and room for those of all.
    fn own_and_reduced<'a>(
        &self,
        sums: &'a mut CudaSums,
    ) -> Result<(&'a DeviceSums, &'a mut DeviceSums), DeviceError> {
        let reduced = match sums.reduced.take() {
            Some(reduced) => reduced,
            None => self.room_for_sums(sums.len)?,
        };
        Ok((sums.own.get(), sums.reduced.insert(reduced)))
    }

    /// Empty sums of `len` elements, in host memory where the device has no more: a plan does not count those that are wanted
    /// for other workers.
    pub(super) fn room_for_sums(&self, len: usize) -> Result<DeviceSums, GpuError> {
        let seldom = self.seldom();
        let made = self.kernels.new_sums(seldom, len);
        match made {
            Err(error) if seldom == Memory::Device && error.is_out_of_memory() => {
                warn!("gradient sums go to host memory, because the GPU's is full");
                self.kernels.new_sums(Memory::Host, len)
            }
            made => made,
        }
    }
}

/// # Safety
/// As of [`DeviceSum::new`].
unsafe fn in_place(numbers: &mut CudaSlice<i64>) -> DeviceSum {
    let len = numbers.len();
    // SAFETY: the caller's promise.
    unsafe { in_place_of(numbers, len) }
}

/// The sum of the first `len` numbers.
///
/// # Safety
/// As of [`DeviceSum::new`].
unsafe fn in_place_of(numbers: &mut CudaSlice<i64>, len: usize) -> DeviceSum {
    assert!(len <= numbers.len(), "{len} of {}", numbers.len());
    let stream = numbers.stream().clone();
    let address = numbers.device_ptr_mut(&stream).0;
    // SAFETY: there are so many, and the rest is the caller's promise.
    unsafe { DeviceSum::new(address, address, len, Element::I64) }
}

/// # Safety
/// As of [`DeviceSum::new`].
unsafe fn out_of_place(
    from: &CudaSlice<i64>,
    to: &mut Array<i64>,
    piece: Range<usize>,
) -> DeviceSum {
    assert_eq!(from.len(), to.len(), "sums of one adapter");
    let (stream, len) = (from.stream(), piece.len());
    let mut to = to.slice_mut(piece.clone());
    let (send, receive) = (
        from.slice(piece).device_ptr(stream).0,
        to.device_ptr_mut(stream).0,
    );
    // SAFETY: both have so many, and the rest is the caller's promise.
    unsafe { DeviceSum::new(send, receive, len, Element::I64) }
}

fn flags_of(counts: &[i64]) -> Flags {
    Flags {
        non_finite: counts[0].cast_unsigned(),
        overflow: counts[1].cast_unsigned(),
    }
}

fn digest_of(sums: &[i64], first: usize) -> SumDigest {
    const BLOCK: usize = 1 << 16;
    sums.par_chunks(BLOCK)
        .enumerate()
        .map(|(block, sums)| SumDigest::of(sums, first + block * BLOCK))
        .reduce(SumDigest::default, SumDigest::plus)
}
