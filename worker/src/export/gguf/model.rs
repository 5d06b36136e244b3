//! A merged model into one or several files at once: each piece is read and merged once, and stored in each file's type.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use weft_common::failpoint;
use weft_common::storage::StorageError;

use super::container::{Container, Metadata, Tensor};
use super::{Quantization, TensorType, architecture, rotary};
use crate::export::weights::{MergedModel, MergedTensor};
use crate::export::{Control, ExportError, Progress};
use crate::model::loader::{Part, TensorRole, stored_row};
use crate::model::{Projection, Spec};

/// The files of a merged model, planned.
pub(crate) struct ModelFiles<'a> {
    model: MergedModel<'a>,
    roles: Vec<TensorRole>,
    divisors: Option<Vec<f32>>,
    files: Vec<Planned>,
}

struct Planned {
    name: String,
    tensors: Vec<Tensor>,
    container: Container,
}

impl<'a> ModelFiles<'a> {
    /// Plans a file `NAME-QUANTIZATION.gguf` for each quantization; `vocabulary` is the tokenizer's metadata.
    pub(crate) fn plan(
        model: MergedModel<'a>,
        name: &str,
        vocabulary: &Metadata,
        quantizations: &[Quantization],
    ) -> Result<Self, ExportError> {
        let spec = model.spec();
        architecture::check(spec)?;
        let (roles, divisors) = (model.roles(), rotary::divisors(spec));
        let plan = |&quantization: &Quantization| {
            let mut metadata = architecture::model(spec, name, quantization);
            metadata.extend(vocabulary.iter().cloned());
            let tensors = tensors(spec, &roles, divisors.as_deref(), quantization);
            Planned {
                name: file_name(name, quantization),
                container: Container::new(&metadata, &tensors),
                tensors,
            }
        };
        let files = quantizations.iter().map(plan).collect();
        Ok(Self {
            model,
            roles,
            divisors,
            files,
        })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.container.bytes).sum()
    }

    /// Writes the files; gives their names and sizes.
    pub(crate) fn write(
        &self,
        folder: &Path,
        control: Control<'_>,
    ) -> Result<Vec<(String, u64)>, ExportError> {
        let files = self.files.iter();
        let open = files.map(|file| GgufWriter::create(&folder.join(&file.name), &file.container));
        let writers = open.collect::<Result<Vec<_>, _>>()?;
        for (index, &role) in self.roles.iter().enumerate() {
            failpoint::hit("exporting");
            self.write_tensor(&self.model.tensor(role)?, index, &writers)?;
            (control.progress)(Progress {
                done: index + 1,
                total: self.roles.len(),
            });
        }
        if let Some(divisors) = &self.divisors {
            for writer in &writers {
                writer.write(self.roles.len(), 0, bytemuck::cast_slice(divisors))?;
            }
        }
        let files = self.files.iter().zip(writers);
        let finished = files.map(|(file, writer)| {
            writer.finish()?;
            Ok((file.name.clone(), file.container.bytes))
        });
        finished.collect()
    }

    fn write_tensor(
        &self,
        tensor: &MergedTensor<'_>,
        index: usize,
        writers: &[GgufWriter<'_>],
    ) -> Result<(), ExportError> {
        let (_, cols) = tensor.size();
        let head = permuted_heads(tensor.role, self.model.spec());
        tensor.for_each_piece(head.unwrap_or(1), |first, values| {
            if let Some(head_rows) = head {
                permute(values, head_rows, row_len(tensor.role, cols));
            }
            for (file, writer) in self.files.iter().zip(writers) {
                let kind = file.tensors[index].kind;
                check_range(tensor, kind, values)?;
                let mut bytes = vec![0; kind.bytes(values.len())];
                kind.encode(values, &mut bytes);
                writer.write(index, kind.bytes(first * cols), &bytes)?;
            }
            Ok(())
        })
    }
}

/// `NAME-Q4_K_M.gguf`.
pub(super) fn file_name(name: &str, quantization: Quantization) -> String {
    format!("{name}-{}.gguf", quantization.name().to_ascii_uppercase())
}

fn tensors(
    spec: &Spec,
    roles: &[TensorRole],
    divisors: Option<&[f32]>,
    quantization: Quantization,
) -> Vec<Tensor> {
    let of_role = |&role: &TensorRole| Tensor {
        name: role.gguf(),
        shape: role.shape(spec),
        kind: quantization.tensor_type(role, spec),
    };
    let divisors = divisors.map(|divisors| Tensor {
        name: rotary::ROPE_FREQS.to_owned(),
        shape: vec![divisors.len()],
        kind: TensorType::F32,
    });
    roles.iter().map(of_role).chain(divisors).collect()
}

/// Rows of a head, for the tensors whose rows are stored in another order than Hugging Face's.
fn permuted_heads(role: TensorRole, spec: &Spec) -> Option<usize> {
    match role {
        TensorRole::Layer(
            _,
            Part::Weight(Projection::Q | Projection::K) | Part::Bias(Projection::Q | Projection::K),
        ) => Some(spec.head_dim),
        TensorRole::Embed | TensorRole::FinalNorm | TensorRole::Head | TensorRole::Layer(..) => {
            None
        }
    }
}

/// Numbers that move together: a bias is one row to read, and a column to permute.
fn row_len(role: TensorRole, cols: usize) -> usize {
    match role {
        TensorRole::Layer(_, Part::Bias(_)) => 1,
        TensorRole::Embed | TensorRole::FinalNorm | TensorRole::Head | TensorRole::Layer(..) => {
            cols
        }
    }
}

/// Rows of whole heads, from (half, pair) to (pair, half).
pub(super) fn permute(values: &mut [f32], head_rows: usize, cols: usize) {
    let mut moved = vec![0.0; head_rows * cols];
    for head in values.chunks_exact_mut(head_rows * cols) {
        for (row, values) in head.chunks_exact(cols).enumerate() {
            let to = stored_row(row, head_rows) * cols;
            moved[to..to + cols].copy_from_slice(values);
        }
        head.copy_from_slice(&moved);
    }
}

/// Half precision ends at 65504; so do the scales of quantized blocks, far beyond any weight.
fn check_range(
    tensor: &MergedTensor<'_>,
    kind: TensorType,
    values: &[f32],
) -> Result<(), ExportError> {
    let largest = match kind {
        TensorType::F32 | TensorType::Bf16 => f32::MAX,
        TensorType::F16
        | TensorType::Q8_0
        | TensorType::Q5_0
        | TensorType::Q5_1
        | TensorType::Q4K
        | TensorType::Q5K
        | TensorType::Q6K => 65_504.0,
    };
    match values.iter().find(|value| value.abs() > largest) {
        None => Ok(()),
        Some(&value) => Err(tensor.too_large(value, kind.ggml().name(), "--quantization")),
    }
}

/// An open file, written at any place from any thread.
pub(super) struct GgufWriter<'a> {
    path: PathBuf,
    file: File,
    container: &'a Container,
}

impl<'a> GgufWriter<'a> {
    /// Makes the file with its front part and its whole length.
    pub(super) fn create(path: &Path, container: &'a Container) -> Result<Self, StorageError> {
        let failed = |error| StorageError::new("write", path, error);
        let file = File::create(path).map_err(failed)?;
        file.set_len(container.bytes).map_err(failed)?;
        file.write_all_at(&container.front, 0).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            container,
        })
    }

    /// Writes a part of the tensor of that number, `offset` bytes behind its start.
    pub(super) fn write(
        &self,
        tensor: usize,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let at = self.container.offsets[tensor] + offset as u64;
        (self.file.write_all_at(bytes, at))
            .map_err(|error| StorageError::new("write", &self.path, error))
    }

    /// Brings everything onto the disk.
    pub(super) fn finish(self) -> Result<(), StorageError> {
        (self.file.sync_all()).map_err(|error| StorageError::new("write", &self.path, error))
    }
}
