//! A GGUF file as a source of weights.
//!
//! Rows are dequantized by candle as they are read. llama.cpp's converter permutes the rows of `attn_q` and `attn_k`
//! within each head, so that rotary pairs lie beside each other; here they are put back, so that weights, adapters and
//! their names mean the same whichever format the base came in.

use std::path::Path;

use candle_core::CpuStorage;
use candle_core::quantized::GgmlDType;
use weft_common::gguf::{GgmlType, GgufFile, TensorInfo};

use super::error::LoadError;
use super::file::{RangeFile, Scratch};
use super::floats::FloatType;
use super::names::{Part, TensorRole};
use super::source::{ReadRows, Rows, Stored, WeightSource};
use crate::model::{Projection, Spec};

/// An open GGUF file. The container is mapped for its directory; weights are read by range.
#[derive(Debug)]
pub(super) struct Gguf<'a> {
    container: &'a GgufFile,
    file: RangeFile,
    heads: usize,
    kv_heads: usize,
}

impl<'a> Gguf<'a> {
    pub(super) fn open(container: &'a GgufFile, spec: &Spec) -> Result<Self, LoadError> {
        Ok(Self {
            container,
            file: RangeFile::open(container.path())?,
            heads: spec.heads,
            kv_heads: spec.kv_heads,
        })
    }

    /// Heads by which the rows of a tensor are permuted, if they are.
    fn permuted_heads(&self, role: TensorRole) -> Option<usize> {
        match role {
            TensorRole::Layer(_, Part::Weight(Projection::Q) | Part::Bias(Projection::Q)) => {
                Some(self.heads)
            }
            TensorRole::Layer(_, Part::Weight(Projection::K) | Part::Bias(Projection::K)) => {
                Some(self.kv_heads)
            }
            _ => None,
        }
    }
}

impl WeightSource for Gguf<'_> {
    fn path(&self) -> &Path {
        self.container.path()
    }

    fn is_quantized(&self) -> bool {
        // Its quantizations are not the engine's; all linears are brought to one format.
        false
    }

    fn has(&self, role: TensorRole) -> bool {
        self.container.tensor(&role.gguf()).is_some()
    }

    fn find(&self, role: TensorRole, shape: &[usize]) -> Result<Stored<'_>, LoadError> {
        let name = role.gguf();
        let info = find_tensor(self.container, &name)?;
        check_shape(self.container.path(), info, shape)?;
        let permuted = self.permuted_heads(role);
        // A permuted bias is read as a column: its elements move as the rows of its matrix do.
        let cols = match (permuted, shape) {
            (Some(_), &[_]) => 1,
            _ => shape.last().copied().unwrap_or(1),
        };
        if !cols.is_multiple_of(info.kind.block_elements() as usize) {
            let problem = format!(
                "tensor `{name}` of shape {shape:?} is stored as {}",
                info.kind
            );
            return Err(LoadError::damaged(self.container.path(), problem));
        }
        let rows = QuantizedRows {
            file: &self.file,
            offset: info.offset,
            kind: info.kind,
            cols,
        };
        let reader: Box<dyn ReadRows> = match permuted {
            Some(heads) => Box::new(PermutedRows {
                rows,
                head_rows: shape[0] / heads,
            }),
            None => Box::new(rows),
        };
        Ok(Stored::Rows(Rows {
            path: self.container.path(),
            name,
            reader,
        }))
    }
}

pub(super) fn find_tensor<'a>(
    container: &'a GgufFile,
    name: &str,
) -> Result<&'a TensorInfo, LoadError> {
    container
        .tensor(name)
        .ok_or_else(|| LoadError::MissingTensor {
            path: container.path().to_owned(),
            tensor: name.to_owned(),
        })
}

fn check_shape(path: &Path, info: &TensorInfo, shape: &[usize]) -> Result<(), LoadError> {
    let found: Vec<usize> = info.dims.iter().map(|&dim| dim as usize).collect();
    if found == shape {
        return Ok(());
    }
    Err(LoadError::Shape {
        path: path.to_owned(),
        tensor: info.name.clone(),
        expected: shape.to_vec(),
        found,
    })
}

/// Rows of one of ggml's types.
struct QuantizedRows<'a> {
    file: &'a RangeFile,
    offset: u64,
    kind: GgmlType,
    cols: usize,
}

impl QuantizedRows<'_> {
    /// Stored bytes of `elements`, which fill whole blocks because rows do.
    fn bytes(&self, elements: usize) -> usize {
        elements / self.kind.block_elements() as usize * self.kind.block_bytes() as usize
    }
}

impl ReadRows for QuantizedRows<'_> {
    fn read(&self, first: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<(), LoadError> {
        let bytes = scratch.bytes(self.bytes(out.len()));
        let skipped = self.bytes(first * self.cols);
        self.file.read_at(self.offset + skipped as u64, bytes)?;
        dequantize(self.file.path(), self.kind, bytes, out)
    }

    fn format(&self) -> Option<FloatType> {
        match self.kind {
            GgmlType::F32 => Some(FloatType::F32),
            GgmlType::F16 => Some(FloatType::F16),
            GgmlType::BF16 => Some(FloatType::Bf16),
            _ => None,
        }
    }

    fn block_type(&self) -> Option<GgmlType> {
        (self.kind.block_elements() > 1).then_some(self.kind)
    }

    fn read_blocks(&self, out: &mut [u8]) -> Result<(), LoadError> {
        self.file.read_at(self.offset, out)
    }
}

/// Query or key rows, read back in the order of Hugging Face.
struct PermutedRows<'a> {
    rows: QuantizedRows<'a>,
    head_rows: usize,
}

impl ReadRows for PermutedRows<'_> {
    fn read(&self, first: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<(), LoadError> {
        for (row, out) in (first..).zip(out.chunks_mut(self.rows.cols)) {
            self.rows
                .read(stored_row(row, self.head_rows), scratch, out)?;
        }
        Ok(())
    }

    fn format(&self) -> Option<FloatType> {
        self.rows.format()
    }

    fn block_type(&self) -> Option<GgmlType> {
        self.rows.block_type()
    }

    fn read_blocks(&self, out: &mut [u8]) -> Result<(), LoadError> {
        let row_bytes = self.rows.bytes(self.rows.cols);
        let mut stored = vec![0; out.len()];
        self.rows.read_blocks(&mut stored)?;
        for (row, out) in out.chunks_mut(row_bytes).enumerate() {
            out.copy_from_slice(
                &stored[stored_row(row, self.head_rows) * row_bytes..][..row_bytes],
            );
        }
        Ok(())
    }
}

/// Where row `row` of a query or key matrix lies in a GGUF file. A head's rows (half, pair) are stored as (pair, half).
pub(crate) fn stored_row(row: usize, head_rows: usize) -> usize {
    let (head, within) = (row / head_rows, row % head_rows);
    let (half, pair) = (within / (head_rows / 2), within % (head_rows / 2));
    head * head_rows + 2 * pair + half
}

/// Undoes the quantization of whole blocks. `bytes` is aligned for every type.
pub(super) fn dequantize(
    path: &Path,
    kind: GgmlType,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), LoadError> {
    let blocks = candle_type(kind).from_data(bytes.into());
    match blocks.dequantize(out.len()) {
        Ok(CpuStorage::F32(values)) => out.copy_from_slice(&values),
        Ok(_) => {
            return Err(LoadError::damaged(
                path,
                format!("blocks of type {kind} do not decode to floats"),
            ));
        }
        Err(e) => {
            return Err(LoadError::damaged(
                path,
                format!("blocks of type {kind} cannot be decoded ({e})"),
            ));
        }
    }
    Ok(())
}

fn candle_type(kind: GgmlType) -> GgmlDType {
    match kind {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q8_1 => GgmlDType::Q8_1,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        GgmlType::Q8K => GgmlDType::Q8K,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_rows_are_those_of_the_converter() {
        // reshape(heads, 2, 4/2, cols).swapaxes(1, 2) of two heads of four rows stores these rows of the original:
        let stored = [0, 2, 1, 3, 4, 6, 5, 7];
        for (position, &row) in stored.iter().enumerate() {
            assert_eq!(stored_row(row, 4), position);
        }
        // and a head of six, where the permutation is not its own inverse.
        let stored = [0, 3, 1, 4, 2, 5];
        for (position, &row) in stored.iter().enumerate() {
            assert_eq!(stored_row(row, 6), position);
        }
    }
}
