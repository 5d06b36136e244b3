//! How much memory a backend takes for what it is asked for.

use crate::model::Spec;

/// Counts bytes of device memory. Needs no device, so that memory can be planned where there is none.
pub trait Sizes {
    /// Of matrices of which each row belongs together, as [`super::Ops::alloc_joined`] makes them, all together.
    fn matrix_bytes(&self, rows: usize, widths: &[usize]) -> u64;

    /// Of a matrix, as far as others may lie in it while it is not used; 0 where a backend has no such thing.
    fn lendable_bytes(&self, rows: usize, width: usize) -> u64;

    /// Whether what a step seldom reads or writes lies in host memory. A job does so because it has no room to spare.
    fn is_lean(&self) -> bool;

    /// Of what a pass over `tokens` tokens takes beside the buffers that are asked for, at adapter rank `rank`.
    fn scratch_bytes(&self, spec: &Spec, tokens: usize, rank: usize) -> u64;

    /// Of what summing `params` gradients with other workers takes, from the first sum on; 0 where that is host memory.
    fn peers_bytes(&self, _params: usize) -> u64 {
        0
    }
}
