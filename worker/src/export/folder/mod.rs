//! A merged model as transformers loads it: safetensors in shards, 16-bit or bitsandbytes' NF4.

mod nf4;
mod shards;

use std::path::Path;

use half::{bf16, f16};
use weft_common::failpoint;

use super::weights::{MergedModel, MergedTensor};
use super::{Control, ExportError, HalfType, Progress};
use crate::model::loader::{Part, TensorRole};
use nf4::Nf4Names;
use shards::{Entry, Plan, SHARD_BYTES, ShardDtype, Writer};

/// How the linears are stored; everything else has 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linears {
    /// As everything else.
    Half,
    /// NF4 with double quantization.
    Nf4,
}

/// What is written, planned.
pub(super) struct ModelFolder<'a> {
    model: MergedModel<'a>,
    half: HalfType,
    linears: Linears,
    plan: Plan,
}

impl<'a> ModelFolder<'a> {
    pub(super) fn plan(model: MergedModel<'a>, half: HalfType, linears: Linears) -> Self {
        let spec = model.spec();
        let group = |role: TensorRole| {
            let (name, shape) = (role.hugging_face(), role.shape(spec));
            match (linears, role) {
                (Linears::Nf4, TensorRole::Layer(_, Part::Weight(_))) => {
                    Nf4Names::of(&name).entries((shape[0], shape[1]))
                }
                _ => vec![Entry {
                    name,
                    dtype: half.shard(),
                    shape,
                }],
            }
        };
        let groups = model.roles().into_iter().map(group).collect();
        Self {
            model,
            half,
            linears,
            plan: Plan::new(groups, SHARD_BYTES),
        }
    }

    /// Bytes of the weights' files.
    pub(super) fn bytes(&self) -> u64 {
        self.plan.bytes()
    }

    /// Writes the weights; gives the files' names and sizes.
    pub(super) fn write(
        &self,
        folder: &Path,
        control: Control<'_>,
    ) -> Result<Vec<(String, u64)>, ExportError> {
        let writer = Writer::create(&self.plan, folder)?;
        let roles = self.model.roles();
        for (index, &role) in roles.iter().enumerate() {
            failpoint::hit("exporting");
            let tensor = self.model.tensor(role)?;
            match (self.linears, role) {
                (Linears::Nf4, TensorRole::Layer(_, Part::Weight(_))) => {
                    nf4::write(&tensor, self.half, &writer)?;
                }
                _ => self.write_halves(&tensor, &writer)?,
            }
            (control.progress)(Progress {
                done: index + 1,
                total: roles.len(),
            });
        }
        Ok(writer.finish()?)
    }

    fn write_halves(
        &self,
        tensor: &MergedTensor<'_>,
        writer: &Writer<'_>,
    ) -> Result<(), ExportError> {
        let (_, cols) = tensor.size();
        tensor.for_each_piece(1, |first, values| {
            let mut bytes = vec![0; 2 * values.len()];
            for (out, &value) in bytes.as_chunks_mut().0.iter_mut().zip(&*values) {
                *out = self.half.bytes(value);
            }
            self.half.check(tensor, values)?;
            Ok(writer.write(tensor.name(), 2 * first * cols, &bytes)?)
        })
    }
}

impl HalfType {
    /// As PyTorch calls it.
    pub(super) fn torch(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn shard(self) -> ShardDtype {
        match self {
            Self::Bf16 => ShardDtype::Bf16,
            Self::F16 => ShardDtype::F16,
        }
    }

    fn bytes(self, value: f32) -> [u8; 2] {
        match self {
            Self::Bf16 => bf16::from_f32(value).to_le_bytes(),
            Self::F16 => f16::from_f32(value).to_le_bytes(),
        }
    }

    fn rounded(self, value: f32) -> f32 {
        match self {
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }

    fn check(self, tensor: &MergedTensor<'_>, values: &[f32]) -> Result<(), ExportError> {
        match values
            .iter()
            .find(|&&value| !self.rounded(value).is_finite())
        {
            None => Ok(()),
            Some(&value) => Err(tensor.too_large(value, self.torch(), "--dtype")),
        }
    }
}
