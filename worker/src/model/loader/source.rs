//! What the two file formats have in common: tensors, found by role, checked, and read by rows.

use std::path::Path;

use super::error::LoadError;
use super::file::Scratch;
use super::floats::FloatType;
use super::names::TensorRole;
use crate::quant::Nf4Matrix;

/// An open checkpoint.
pub(super) trait WeightSource: Sync {
    /// Where it lies, for messages.
    fn path(&self) -> &Path;

    /// Whether some linears are stored in 4 bits: those that are not were left out of it on purpose.
    fn is_quantized(&self) -> bool;

    /// Whether the file holds the tensor at all.
    fn has(&self, role: TensorRole) -> bool;

    /// Finds a tensor and checks that its shape is `shape` and its format readable.
    fn find(&self, role: TensorRole, shape: &[usize]) -> Result<Stored<'_>, LoadError>;
}

/// A tensor as the file stores it.
pub(super) enum Stored<'a> {
    /// Floats, or a quantization that is undone while reading.
    Rows(Box<dyn ReadRows + 'a>),
    /// NF4 already, taken as it is.
    Nf4(Nf4Matrix),
}

/// A stored tensor of floats. A vector is one row.
pub(super) trait ReadRows: Sync {
    /// Reads the rows from `first` on that fill `out`.
    fn read(&self, first: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<(), LoadError>;

    /// The float format that the values are stored in; `None` where they were quantized.
    fn format(&self) -> Option<FloatType>;
}
