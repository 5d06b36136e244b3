//! 16-bit matrices from their files to NF4 on the device.

use cudarc::driver::{CudaEvent, CudaSlice, PinnedHostSlice, PushKernelArg};
use rayon::prelude::*;

use super::{CudaKernels, DeviceNf4, count, whole_vectors};
use crate::cuda::GpuError;
use crate::model::StoredMatrix;
use crate::model::loader::LoadError;
use crate::quant::{Absmax, StoredDtype, nf4};

/// Bytes of a buffer between file and device: long enough a copy for the bus, and sixteen threads' reads.
const STAGE_BYTES: usize = 16 << 20;
/// Bytes that one thread reads at once.
const PIECE_BYTES: usize = 1 << 20;

/// Two buffers in pinned host memory: one is read into while the other is copied to the device.
#[derive(Debug)]
pub struct Staging([Stage; 2]);

/// One of them. The memory's own event is recorded only where the driver's wrapper tracks events, which it does not here.
#[derive(Debug)]
struct Stage {
    memory: PinnedHostSlice<u8>,
    /// The last copy's end.
    copied: CudaEvent,
}

impl Drop for Stage {
    /// Memory goes after the copy from it.
    fn drop(&mut self) {
        // Where this fails the device is lost, and nothing is copied any more.
        let _ = self.copied.synchronize();
    }
}

/// A matrix that did not become NF4.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// Its file.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl CudaKernels {
    /// Buffers for [`Self::quantize_nf4`].
    ///
    /// # Errors
    /// The driver's.
    pub fn new_staging(&self) -> Result<Staging, GpuError> {
        let failed = self.during("pinning host memory");
        let buffer = || {
            let context = self.gpu.stream().context();
            // SAFETY: bytes have no invalid bits; what nothing was read into is copied, and used by nobody. No flags: the
            // processor's caches take what is read from the file.
            let memory = unsafe { context.alloc_pinned_with_flags(STAGE_BYTES, 0) };
            Ok::<_, GpuError>(Stage {
                memory: memory.map_err(&failed)?,
                copied: context.new_event(None).map_err(&failed)?,
            })
        };
        Ok(Staging([buffer()?, buffer()?]))
    }

    /// Reads a matrix and quantizes it on the device, with double quantization: the bits of
    /// [`Nf4Matrix::quantize`](crate::quant::Nf4Matrix::quantize). Takes device memory for the 16-bit matrix meanwhile.
    /// Waits for all work before it.
    ///
    /// # Errors
    /// The driver's; the file's; a number that is not finite.
    ///
    /// # Panics
    /// If its columns are not whole vectors or its elements not whole blocks.
    pub fn quantize_nf4(
        &self,
        stored: &dyn StoredMatrix,
        staging: &mut Staging,
    ) -> Result<DeviceNf4, QuantizeError> {
        let (rows, cols) = stored.shape();
        let elements = rows * cols;
        whole_vectors(cols);
        assert!(
            elements.is_multiple_of(nf4::BLOCK),
            "{elements} elements in blocks of 64"
        );
        let halves = self.stream_in(stored, elements, staging)?;
        let (packed, magnitudes) = self.quantize_blocks(&halves, elements, stored.dtype())?;
        drop(halves);
        if let Some(&value) = magnitudes.iter().find(|value| !value.is_finite()) {
            return Err(stored.not_finite(value).into());
        }
        let absmax = Absmax::double(&magnitudes);
        Ok(self.place_nf4((rows, cols), packed, &absmax, stored.dtype())?)
    }

    /// The file's numbers on the device, and some bytes more.
    fn stream_in(
        &self,
        stored: &dyn StoredMatrix,
        elements: usize,
        Staging(stages): &mut Staging,
    ) -> Result<CudaSlice<u8>, QuantizeError> {
        let failed = self.during("copying a matrix to the GPU");
        let stream = self.gpu.stream();
        let bytes = 2 * elements;
        // Buffers are copied as a whole, the last one with what is left in it.
        let room = bytes.next_multiple_of(STAGE_BYTES);
        // SAFETY: copies below fill all of it.
        let mut halves = unsafe { stream.alloc::<u8>(room) }.map_err(&failed)?;
        for (turn, first) in (0..bytes).step_by(STAGE_BYTES).enumerate() {
            let Stage { memory, copied } = &mut stages[turn % 2];
            copied.synchronize().map_err(&failed)?;
            let bytes_read = memory.as_mut_slice().map_err(&failed)?;
            let len = STAGE_BYTES.min(bytes - first);
            (bytes_read[..len].par_chunks_mut(PIECE_BYTES))
                .enumerate()
                .try_for_each(|(piece, out)| stored.read((first + piece * PIECE_BYTES) / 2, out))?;
            let mut to = halves.slice_mut(first..first + STAGE_BYTES);
            stream.memcpy_htod(&*memory, &mut to).map_err(&failed)?;
            copied.record(stream).map_err(&failed)?;
        }
        Ok(halves)
    }

    /// Codes, and magnitudes in host memory.
    fn quantize_blocks(
        &self,
        halves: &CudaSlice<u8>,
        elements: usize,
        dtype: StoredDtype,
    ) -> Result<(CudaSlice<u8>, Vec<f32>), GpuError> {
        assert!(
            halves.len() >= 2 * elements,
            "{elements} numbers of 16 bits"
        );
        let failed = self.during("nf4_quantize");
        let stream = self.gpu.stream();
        // SAFETY: the kernel writes all of it.
        let mut packed = unsafe { stream.alloc::<u8>(elements / 2) }.map_err(&failed)?;
        let blocks = elements / nf4::BLOCK;
        // SAFETY: the kernel writes all of it.
        let mut magnitudes = unsafe { stream.alloc::<f32>(blocks) }.map_err(&failed)?;
        let (vectors, is_f16) = (count(elements / 8), u32::from(dtype == StoredDtype::F16));
        let mut launch = stream.launch_builder(&self.nf4_quantize);
        launch.arg(halves).arg(&vectors).arg(&is_f16);
        launch.arg(&mut packed).arg(&mut magnitudes);
        // SAFETY: the arguments are the kernel's, and the arrays have the lengths that so many elements need.
        unsafe { launch.launch(self.strided_grid(elements / 8, 256)) }.map_err(&failed)?;
        let read = stream.clone_dtoh(&magnitudes).map_err(&failed)?;
        stream.synchronize().map_err(&failed)?;
        Ok((packed, read))
    }
}

#[cfg(test)]
mod tests {
    use crate::quant::nf4::THRESHOLDS;

    #[test]
    fn the_kernels_thresholds_are_the_processors() {
        let source = include_str!("../../../kernels/quantize.cu");
        let thresholds: Vec<f32> = source
            .split("(v > ")
            .skip(1)
            .map(|rest| rest.split("f)").next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(thresholds, THRESHOLDS);
    }
}
