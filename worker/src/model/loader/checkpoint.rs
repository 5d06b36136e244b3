//! A base model whose tensors are read by rows, for what goes through all of them once.

use std::path::Path;

use super::assemble::quantize;
use super::error::LoadError;
use super::file::Scratch;
use super::floats::FloatType;
use super::inspect::check_tensors;
use super::names::TensorRole;
use super::open;
use super::source::{Rows, Stored, WeightSource};
use crate::model::Spec;
use crate::quant::{Nf4Matrix, StoredDtype};

/// An open base model, every tensor of which is there and has its shape.
#[derive(Clone, Copy)]
pub struct Checkpoint<'a> {
    spec: &'a Spec,
    source: &'a dyn WeightSource,
}

/// A tensor of an open base model. Vectors are one row.
pub struct BaseTensor<'a> {
    name: String,
    shape: Vec<usize>,
    values: Stored<'a>,
}

/// What a tensor's numbers are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseFormat {
    /// Floats of 16 or 32 bits.
    Float(StoredDtype),
    /// One of ggml's quantizations.
    Ggml,
    /// NF4, as bitsandbytes stores it.
    Nf4,
}

/// Opens the base model at `path`, checks it, and does `work` with it.
///
/// # Errors
/// Those of [`super::inspect`], and what `work` says.
pub fn with_checkpoint<T, E: From<LoadError>>(
    path: &Path,
    work: impl FnOnce(Checkpoint<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let (_, done) = open(path, |spec, source| {
        check_tensors(spec, source)?;
        Ok(work(Checkpoint { spec, source }))
    })?;
    done
}

impl<'a> Checkpoint<'a> {
    /// Dimensions and conventions.
    #[must_use]
    pub fn spec(&self) -> &'a Spec {
        self.spec
    }

    /// Whether the file holds the tensor: heads may be tied, and linears without bias.
    #[must_use]
    pub fn has(&self, role: TensorRole) -> bool {
        match role {
            TensorRole::Head => !self.spec.tied_head,
            TensorRole::Embed | TensorRole::FinalNorm | TensorRole::Layer(..) => {
                self.source.has(role)
            }
        }
    }

    /// Opens a tensor.
    ///
    /// # Errors
    /// It is missing, damaged or of a format that weft does not read.
    pub fn tensor(&self, role: TensorRole) -> Result<BaseTensor<'a>, LoadError> {
        let shape = role.shape(self.spec);
        Ok(BaseTensor {
            name: role.hugging_face(),
            values: self.source.find(role, &shape)?,
            shape,
        })
    }
}

impl BaseTensor<'_> {
    /// Hugging Face's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows and columns; a vector is one row.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        match *self.shape {
            [rows, cols] => (rows, cols),
            _ => (1, self.shape.iter().product()),
        }
    }

    /// What the file holds.
    #[must_use]
    pub fn format(&self) -> BaseFormat {
        match &self.values {
            Stored::Nf4(_) => BaseFormat::Nf4,
            Stored::Rows(rows) => rows.format().map_or(BaseFormat::Ggml, |float| {
                BaseFormat::Float(FloatType::stored(float))
            }),
        }
    }

    /// The same tensor as training with `load_in_4bit` sees it: quantized to NF4 where it is not in 4 bits yet.
    ///
    /// # Errors
    /// The file cannot be read, or holds what is not finite.
    pub fn as_trained(self) -> Result<Self, LoadError> {
        let size = self.size();
        let values = match self.values {
            Stored::Rows(rows) => Stored::Nf4(quantize(&rows, size)?),
            nf4 @ Stored::Nf4(_) => nf4,
        };
        Ok(Self { values, ..self })
    }

    /// Fills `out` with whole rows from `first` on, as f32. Any thread may read any rows.
    ///
    /// # Errors
    /// The file cannot be read, or holds what is not finite.
    pub fn read(&self, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        match &self.values {
            Stored::Rows(rows) => self.read_rows(rows, first, out),
            Stored::Nf4(matrix) => {
                dequantize(matrix, first, out);
                Ok(())
            }
        }
    }

    fn read_rows(&self, rows: &Rows<'_>, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        rows.read(first, &mut Scratch::default(), out)
    }
}

fn dequantize(matrix: &Nf4Matrix, first: usize, out: &mut [f32]) {
    let rows = out.len() / matrix.cols();
    matrix.dequantize_rows_into(first..first + rows, out);
}
