//! The merged model: every tensor of it, by pieces of rows.

use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::merge::{Delta, add_delta};
use super::{Control, ExportError, MergeBase, PeftAdapter};
use crate::model::Spec;
use crate::model::loader::{BaseFormat, BaseTensor, Checkpoint, Part, TensorRole};
use crate::quant::StoredDtype;

/// About one megabyte of f32: enough work for a thread, little enough for its cache.
const PIECE_ELEMENTS: usize = 1 << 18;

/// A base model with an adapter added to it as it is read.
#[derive(Clone, Copy)]
pub(super) struct MergedModel<'a> {
    pub(super) checkpoint: Checkpoint<'a>,
    pub(super) adapter: &'a PeftAdapter,
    pub(super) base: MergeBase,
    pub(super) stop: &'a AtomicBool,
}

/// One tensor of it.
pub(super) struct MergedTensor<'a> {
    pub(super) role: TensorRole,
    base: BaseTensor<'a>,
    delta: Option<&'a Delta>,
    stop: &'a AtomicBool,
}

impl<'a> MergedModel<'a> {
    pub(super) fn spec(&self) -> &'a Spec {
        self.checkpoint.spec()
    }

    /// The tensors that there are.
    pub(super) fn roles(&self) -> Vec<TensorRole> {
        let all = TensorRole::all(self.spec());
        all.filter(|&role| self.checkpoint.has(role)).collect()
    }

    /// Opens a tensor. **Cost**: quantizes it where it is to be merged into NF4.
    pub(super) fn tensor(&self, role: TensorRole) -> Result<MergedTensor<'a>, ExportError> {
        let base = self.checkpoint.tensor(role)?;
        let (base, delta) = match role {
            TensorRole::Layer(layer, Part::Weight(projection)) => {
                let base = match self.base {
                    MergeBase::Stored => base,
                    MergeBase::Nf4 => base.as_trained()?,
                };
                (base, self.adapter.delta(layer, projection))
            }
            TensorRole::Embed
            | TensorRole::FinalNorm
            | TensorRole::Head
            | TensorRole::Layer(_, Part::AttnNorm | Part::MlpNorm | Part::Bias(_)) => (base, None),
        };
        Ok(MergedTensor {
            role,
            base,
            delta,
            stop: self.stop,
        })
    }

    /// The first linear that the base model holds in 4 bits.
    pub(super) fn first_nf4(&self) -> Result<Option<String>, ExportError> {
        for role in self.roles() {
            if let TensorRole::Layer(_, Part::Weight(_)) = role {
                let tensor = self.checkpoint.tensor(role)?;
                if tensor.format() == BaseFormat::Nf4 {
                    return Ok(Some(tensor.name().to_owned()));
                }
            }
        }
        Ok(None)
    }

    /// The float format of the base model's embeddings.
    pub(super) fn float_format(&self) -> Result<Option<StoredDtype>, ExportError> {
        Ok(match self.checkpoint.tensor(TensorRole::Embed)?.format() {
            BaseFormat::Float(dtype) => Some(dtype),
            BaseFormat::Ggml | BaseFormat::Nf4 => None,
        })
    }
}

impl MergedTensor<'_> {
    /// Hugging Face's name.
    pub(super) fn name(&self) -> &str {
        self.base.name()
    }

    /// Rows and columns; a vector is one row.
    pub(super) fn size(&self) -> (usize, usize) {
        self.base.size()
    }

    /// Calls `work` with pieces of whole rows, `aligned` at a time or a multiple of it, on all cores: the first row, and
    /// the merged numbers.
    pub(super) fn for_each_piece(
        &self,
        aligned: usize,
        work: impl Fn(usize, &mut [f32]) -> Result<(), ExportError> + Sync,
    ) -> Result<(), ExportError> {
        let (rows, cols) = self.size();
        let piece = (PIECE_ELEMENTS / cols / aligned).max(1) * aligned;
        (0..rows.div_ceil(piece))
            .into_par_iter()
            .try_for_each_init(Vec::new, |values, index| {
                Control::go_on(self.stop)?;
                let first = index * piece;
                values.resize(piece.min(rows - first) * cols, 0.0);
                self.read(first, values)?;
                work(first, values)
            })
    }

    /// Reads and merges whole rows from `first` on.
    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), ExportError> {
        self.base.read(first, out)?;
        let Some(delta) = self.delta else {
            return Ok(());
        };
        add_delta(delta, first, out);
        match out.iter().find(|value| !value.is_finite()) {
            None => Ok(()),
            Some(&value) => Err(ExportError::NotFinite {
                tensor: self.name().to_owned(),
                value,
            }),
        }
    }

    /// The error for a number that `format` cannot hold; `option` chooses another.
    pub(super) fn too_large(
        &self,
        value: f32,
        format: &'static str,
        option: &'static str,
    ) -> ExportError {
        ExportError::TooLarge {
            tensor: self.name().to_owned(),
            value,
            format,
            option,
        }
    }
}
