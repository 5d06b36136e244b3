//! The matrix of a linear on its way from its file: read, or about to be.

use super::assemble::quantize;
use super::error::LoadError;
use super::file::RangeFile;
use super::floats::FloatType;
use super::source::Rows;
use crate::model::{FrozenLinear, StoredMatrix};
use crate::ops::Ops;
use crate::quant::{Nf4Matrix, StoredDtype};

/// A linear's matrix.
pub(super) enum Incoming<'a> {
    /// In host memory, as it is to be kept.
    Ready(FrozenLinear),
    /// In the file, to become NF4.
    ToQuantize(ToQuantize<'a>),
}

/// A matrix of floats, or of what becomes floats while it is read.
pub(super) struct ToQuantize<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) shape: (usize, usize),
}

impl Incoming<'_> {
    /// Bytes that it holds once it is loaded.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ready(matrix) => matrix.bytes(),
            Self::ToQuantize(matrix) => Nf4Matrix::bytes_for(matrix.shape),
        }
    }

    /// In host memory.
    pub(super) fn into_host(self) -> Result<FrozenLinear, LoadError> {
        match self {
            Self::Ready(matrix) => Ok(matrix),
            Self::ToQuantize(matrix) => quantize(&matrix.rows, matrix.shape).map(FrozenLinear::Nf4),
        }
    }

    /// On a device. Floats of 16 bits are quantized there.
    pub(super) fn into_device<O: Ops>(self, ops: &O) -> Result<O::Linear, LoadError> {
        if let Self::ToQuantize(matrix) = &self
            && let Some(halves) = matrix.halves()
        {
            return ops.quantize_linear(&halves);
        }
        self.into_host().map(|matrix| ops.upload_linear(matrix))
    }
}

/// A matrix of 16-bit floats that lie one after another.
struct Halves<'a> {
    matrix: &'a ToQuantize<'a>,
    file: &'a RangeFile,
    offset: u64,
    float: FloatType,
}

impl<'a> ToQuantize<'a> {
    fn halves(&'a self) -> Option<Halves<'a>> {
        let float = self.rows.format().filter(|float| float.width() == 2)?;
        let (file, offset) = self.rows.reader.plain()?;
        Some(Halves {
            matrix: self,
            file,
            offset,
            float,
        })
    }
}

impl StoredMatrix for Halves<'_> {
    fn shape(&self) -> (usize, usize) {
        self.matrix.shape
    }

    fn dtype(&self) -> StoredDtype {
        self.float.stored()
    }

    fn read(&self, first: usize, out: &mut [u8]) -> Result<(), LoadError> {
        self.file.read_at(self.offset + 2 * first as u64, out)
    }

    fn not_finite(&self, value: f32) -> LoadError {
        self.matrix.rows.not_finite(value)
    }

    fn quantize(&self) -> Result<Nf4Matrix, LoadError> {
        quantize(&self.matrix.rows, self.matrix.shape)
    }
}
