//! Memory on a GPU, counted without one.

use super::linear::weights_len;
use super::loss::logits_len;
use crate::model::Spec;
use crate::ops::Sizes;
use crate::ops::cuda::row_stride;

/// What the memory of a job on a GPU depends on, beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaSizes {
    /// Rank of the adapters; 0 without.
    pub rank: usize,
    /// Whether what a step seldom reads or writes lies in host memory: embeddings that are no head, gradient sums, and the
    /// adapter in f32.
    pub lean: bool,
}

impl CudaSizes {
    /// Elements from one row to the next of matrices side by side.
    pub(super) fn stride(self, widths: &[usize]) -> usize {
        row_stride(widths.iter().sum(), self.tail())
    }

    /// Spare columns behind every matrix: what the adapters of q, k and v need together.
    pub(super) fn tail(self) -> usize {
        3 * self.rank
    }

    /// Elements of what a pass dequantizes to at a time, and of its logits, which are not there at the same time.
    pub(super) fn scratch_len(self, spec: &Spec, tokens: usize, rank: usize) -> usize {
        weights_len(spec, rank).max(logits_len(spec, tokens))
    }
}

impl Sizes for CudaSizes {
    fn matrix_bytes(&self, rows: usize, widths: &[usize]) -> u64 {
        (2 * rows * self.stride(widths)) as u64
    }

    fn lendable_bytes(&self, rows: usize, width: usize) -> u64 {
        self.matrix_bytes(rows, &[width])
    }

    fn scratch_bytes(&self, spec: &Spec, tokens: usize, rank: usize) -> u64 {
        (self.scratch_len(spec, tokens, rank) * 2 + tokens * spec.heads * size_of::<f32>()) as u64
    }
}
