//! A matrix that still lies in its file.

use super::loader::LoadError;
use crate::quant::{Nf4Matrix, StoredDtype};

/// A matrix of 16-bit floats in a file, read by ranges from any thread, about to become NF4.
pub trait StoredMatrix: Sync {
    /// Outputs and inputs.
    fn shape(&self) -> (usize, usize);

    /// bfloat16 or IEEE half.
    fn dtype(&self) -> StoredDtype;

    /// Fills `out` with the file's little-endian numbers, row by row, from the one numbered `first` on.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&self, first: usize, out: &mut [u8]) -> Result<(), LoadError>;

    /// The error for a matrix that holds `value`, which is not finite.
    fn not_finite(&self, value: f32) -> LoadError;

    /// Reads and quantizes it in host memory, a piece at a time.
    ///
    /// # Errors
    /// The file cannot be read, or holds what is not finite.
    fn quantize(&self) -> Result<Nf4Matrix, LoadError>;
}
