//! What the two file formats have in common: tensors, found by role, checked, and read by rows.

use std::path::Path;

use super::error::LoadError;
use super::file::{RangeFile, Scratch};
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
    Rows(Rows<'a>),
    /// NF4 already, taken as it is.
    Nf4(Nf4Matrix),
}

/// A stored tensor of floats, and what it is called. A vector is one row.
pub(super) struct Rows<'a> {
    pub(super) path: &'a Path,
    pub(super) name: String,
    pub(super) reader: Box<dyn ReadRows + 'a>,
}

impl Rows<'_> {
    /// Reads the rows from `first` on that fill `out`, all of them finite.
    pub(super) fn read(
        &self,
        first: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), LoadError> {
        self.reader.read(first, scratch, out)?;
        // Quantization would turn a NaN into an ordinary weight.
        match out.iter().find(|value| !value.is_finite()) {
            None => Ok(()),
            Some(&value) => Err(self.not_finite(value)),
        }
    }

    /// The error for `value`, which is not finite.
    pub(super) fn not_finite(&self, value: f32) -> LoadError {
        LoadError::damaged(self.path, format!("tensor `{}` holds {value}", self.name))
    }

    /// The float format that the values are stored in; `None` where they were quantized.
    pub(super) fn format(&self) -> Option<FloatType> {
        self.reader.format()
    }
}

/// Reads rows of one tensor in its format. Any thread may read any rows.
pub(super) trait ReadRows: Sync {
    /// Reads the rows from `first` on that fill `out`.
    fn read(&self, first: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<(), LoadError>;

    /// See [`Rows::format`].
    fn format(&self) -> Option<FloatType>;

    /// Where the stored numbers lie one after another, little-endian; `None` where they are not [`Self::format`]'s.
    fn plain(&self) -> Option<(&RangeFile, u64)> {
        None
    }
}
