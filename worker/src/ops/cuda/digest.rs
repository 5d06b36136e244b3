//! Linear digests of arrays where they lie.

use std::marker::PhantomData;
use std::ops::Range;

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, PushKernelArg};
use weft_common::id::Digest;
use weft_common::sum_digest::SumDigest;

use super::accumulate::DeviceDigest;
use super::adamw::DeviceAdamW;
use super::{CudaKernels, blocks, count};
use crate::checkpoint::{Progress, StateHash};
use crate::cuda::GpuError;

/// Bytes that a block digests; whole words.
const PIECE: usize = 1 << 16;
/// Bytes of a word.
const WORD: usize = 8;

/// An array on the device, or a part of one, as bytes to digest.
#[derive(Debug, Clone, Copy)]
pub struct DeviceBytes<'a> {
    address: u64,
    bytes: usize,
    of: PhantomData<&'a ()>,
}

impl<'a> DeviceBytes<'a> {
    /// A whole array.
    ///
    /// # Panics
    /// If it is no multiple of 4 bytes.
    #[must_use]
    pub fn of<T>(array: &'a CudaSlice<T>) -> Self {
        Self::range(array, 0..array.len())
    }

    /// A range of elements.
    ///
    /// # Panics
    /// If the array does not have them, or they do not begin and end at multiples of 4 bytes.
    #[must_use]
    pub fn range<T>(array: &'a CudaSlice<T>, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= array.len(),
            "elements {range:?} of {}",
            array.len()
        );
        let size = size_of::<T>();
        let (start, bytes) = (range.start * size, range.len() * size);
        assert!(
            start.is_multiple_of(4) && bytes.is_multiple_of(4),
            "{bytes} bytes at {start}"
        );
        Self {
            address: array.device_ptr(array.stream()).0 + start as u64,
            bytes,
            of: PhantomData,
        }
    }
}

/// Bytes that one block digests, as the kernel sees them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Piece {
    address: u64,
    position: u64,
    bytes: u64,
}

// SAFETY: three integers, laid out as the kernel's struct.
unsafe impl DeviceRepr for Piece {}

impl CudaKernels {
    /// The linear digest of each array: its bytes as little-endian words of 64 bits, the last one filled with zeros, as
    /// [`SumDigest::of`] from position 0 on. Waits for the device once.
    ///
    /// # Errors
    /// The driver's.
    pub fn digest_words(&self, arrays: &[DeviceBytes<'_>]) -> Result<Vec<SumDigest>, GpuError> {
        let (pieces, firsts) = cut(arrays);
        if pieces.is_empty() {
            return Ok(vec![SumDigest::default(); arrays.len()]);
        }
        let failed = self.during("digesting arrays");
        let stream = self.gpu.stream();
        let none = |len| stream.clone_htod(&vec![DeviceDigest::default(); len]);
        let mut partial = none(pieces.len()).map_err(&failed)?;
        let mut digests = none(arrays.len()).map_err(&failed)?;
        let piece_table = stream.clone_htod(&pieces).map_err(&failed)?;
        let first_table = stream.clone_htod(&firsts).map_err(&failed)?;
        let mut launch = stream.launch_builder(&self.digest_pieces);
        launch.arg(&piece_table).arg(&mut partial);
        // SAFETY: the arguments are the kernel's; every piece lies in an array that is borrowed until the end.
        unsafe { launch.launch(blocks(count(pieces.len()), 256)) }.map_err(&failed)?;
        let mut launch = stream.launch_builder(&self.sum_pieces);
        launch.arg(&partial).arg(&first_table).arg(&mut digests);
        // SAFETY: the arguments are the kernel's; there are a partial for each piece and one first more than arrays.
        unsafe { launch.launch(blocks(count(arrays.len()), 128)) }.map_err(&failed)?;
        let digests = stream.clone_dtoh(&digests).map_err(&failed)?;
        stream.synchronize().map_err(&failed)?;
        Ok(digests.into_iter().map(SumDigest::from).collect())
    }

    /// What `TrainState::digest` says of the same state.
    ///
    /// # Errors
    /// The driver's.
    pub fn state_digest(
        &self,
        progress: Progress,
        params: &CudaSlice<f32>,
        optimizer: &DeviceAdamW,
    ) -> Result<Digest, GpuError> {
        let mut arrays = vec![DeviceBytes::of(params)];
        optimizer.arrays(&mut arrays);
        let mut hash = StateHash::new(progress);
        for (array, digest) in arrays.iter().zip(self.digest_words(&arrays)?) {
            hash.array(array.bytes, digest);
        }
        Ok(hash.finish())
    }
}

/// Pieces of all arrays, and the first of each array, and the end.
fn cut(arrays: &[DeviceBytes<'_>]) -> (Vec<Piece>, Vec<u32>) {
    let mut pieces = Vec::new();
    let mut firsts = vec![0];
    for array in arrays {
        pieces.extend((0..array.bytes).step_by(PIECE).map(|start| Piece {
            address: array.address + start as u64,
            position: (start / WORD) as u64,
            bytes: (array.bytes - start).min(PIECE) as u64,
        }));
        firsts.push(count(pieces.len()));
    }
    (pieces, firsts)
}
