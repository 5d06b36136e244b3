//! Head and cross-entropy, chunk by chunk.

use cudarc::driver::CudaSlice;

use super::profile::OpClass;
use super::{Cuda, CudaLinear, LossRoom, locked};
use crate::cuda::GpuError;
use crate::model::Spec;
use crate::ops::cuda::gemm::{Add, Lay, Product};
use crate::ops::cuda::{DeviceRows, Halves};

/// Rows of a chunk at most.
pub(super) const CHUNK_ROWS: usize = 4096;
/// Logits of a chunk at most: 256 MB in 16 bits.
const CHUNK_LOGITS: usize = 1 << 27;

/// Equal chunks, as few as the limits allow.
fn chunk_rows(rows: usize, vocab: usize) -> usize {
    let most = (CHUNK_LOGITS / vocab).clamp(1, CHUNK_ROWS);
    rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
}

/// Elements of the logits of a chunk, where all of `tokens` tokens are supervised.
pub(super) fn logits_len(spec: &Spec, tokens: usize) -> usize {
    chunk_rows(tokens, spec.vocab) * spec.vocab
}

impl Cuda {
    /// As [`crate::ops::Ops::cross_entropy`].
    pub(super) fn head_and_loss(
        &self,
        targets: &DeviceRows,
        head: &CudaLinear,
        scale: f32,
        x: &Halves,
        dx: &mut Halves,
    ) -> Result<(), GpuError> {
        let mut losses = locked(&self.losses);
        let stream = self.kernels.gpu().stream();
        let failed = self.kernels.during("starting a loss");
        stream.memset_zeros(&mut losses.sum).map_err(failed)?;
        let Some(head) = head.as_table() else {
            return Ok(());
        };
        let (vocab, rows) = (head.rows(), targets.len());
        let step = chunk_rows(rows, vocab);
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            self.scratch.with(&self.kernels, step * vocab, |logits| {
                let mut logits = logits.shaped(count, vocab);
                let part = (first, count);
                self.chunk(
                    targets,
                    part,
                    head,
                    scale,
                    (x, dx),
                    &mut logits,
                    &mut losses,
                )
            })?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what a chunk reads and writes")]
    fn chunk(
        &self,
        targets: &DeviceRows,
        (first, count): (usize, usize),
        head: &Halves,
        scale: f32,
        (x, dx): (&Halves, &mut Halves),
        logits: &mut Halves,
        losses: &mut LossRoom,
    ) -> Result<(), GpuError> {
        let (vocab, width) = (head.rows(), head.width());
        let forward = Product::new(
            [count, vocab, width],
            Lay::plain(x.stride()),
            Lay::transposed(head.stride()),
            logits.stride(),
        );
        let x = x.rows_from(first);
        self.product(
            OpClass::Head,
            (forward, 1.0),
            x.place(),
            head.place(),
            logits.place_mut(),
            Add::Nothing,
        )?;
        let LossRoom { of_rows, sum } = losses;
        let targets = targets.part(first, count);
        self.timed(OpClass::CrossEntropy, || {
            self.kernels
                .cross_entropy(&targets, scale, logits, of_rows, sum)
        })?;
        let mut dx = dx.rows_from(first);
        let backward = Product::new(
            [count, width, vocab],
            Lay::plain(logits.stride()),
            Lay::plain(head.stride()),
            dx.stride(),
        );
        self.product(
            OpClass::Head,
            (backward, 1.0),
            logits.place(),
            head.place(),
            dx.place_mut(),
            Add::Nothing,
        )
    }

    /// The last loss's number.
    pub(super) fn read_loss(&self) -> Result<f64, GpuError> {
        let losses = locked(&self.losses);
        self.read_one(&losses.sum)
    }

    /// A number on the device. Waits.
    pub(super) fn read_one(&self, number: &CudaSlice<f64>) -> Result<f64, GpuError> {
        let stream = self.kernels.gpu().stream();
        let failed = self.kernels.during("reading a number");
        let number = stream.clone_dtoh(number).map_err(&failed)?;
        stream.synchronize().map_err(failed)?;
        Ok(number[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_equal_and_within_the_limits() {
        assert_eq!(chunk_rows(2048, 128_256), 1024);
        assert_eq!(chunk_rows(5000, 1000), 2500);
        assert_eq!(chunk_rows(0, 32_000), 1);
        assert!((1..9000).all(|rows| chunk_rows(rows, 128_256) * 128_256 <= CHUNK_LOGITS));
    }
}
