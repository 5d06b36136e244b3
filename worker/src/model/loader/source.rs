//! What the two file formats have in common: tensors, found by role, checked, and read by rows.

use std::path::Path;

use rayon::prelude::*;
use weft_common::gguf::GgmlType;

use super::error::LoadError;
use super::file::{RangeFile, Scratch};
use super::floats::FloatType;
use super::names::TensorRole;
use crate::quant::{BlockMatrix, Nf4Matrix};

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

    /// Reads all rows in the block quantization that they are stored in; `None` where they are not, or not in one that is
    /// multiplied in blocks.
    pub(super) fn blocks(&self, shape: (usize, usize)) -> Result<Option<BlockMatrix>, LoadError> {
        let Some(kind) = self.reader.block_type() else {
            return Ok(None);
        };
        let read = |out: &mut [u8]| self.reader.read_blocks(out);
        let Some(matrix) = BlockMatrix::read_with(shape, kind, read)? else {
            return Ok(None);
        };
        let not_finite = first_not_finite(&matrix);
        match not_finite {
            None => Ok(Some(matrix)),
            Some(value) => Err(self.not_finite(value)),
        }
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

    /// The block quantization that the rows are stored in, if it is one.
    fn block_type(&self) -> Option<GgmlType> {
        None
    }

    /// Fills `out` with the blocks of all rows, as they are stored; nothing where [`Self::block_type`] is `None`.
    fn read_blocks(&self, _out: &mut [u8]) -> Result<(), LoadError> {
        Ok(())
    }

    /// Where the stored numbers lie one after another, little-endian; `None` where they are not [`Self::format`]'s.
    fn plain(&self) -> Option<(&RangeFile, u64)> {
        None
    }
}

/// A number of the matrix that is NaN or infinite.
fn first_not_finite(matrix: &BlockMatrix) -> Option<f32> {
    let widened = || vec![0.0; matrix.cols()];
    (0..matrix.rows())
        .into_par_iter()
        .map_init(widened, |row, index| {
            matrix.rows_into(index..index + 1, row);
            row.iter().copied().find(|value| !value.is_finite())
        })
        .find_map_first(|found| found)
}
