//! safetensors files with known names and shapes.

use std::collections::{HashMap, HashSet};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::CheckpointError;

/// A tensor to write: name, shape, numbers.
pub(super) struct Named<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers<'a>,
}

/// What a tensor of a checkpoint can hold.
pub(super) enum Numbers<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
}

/// The bytes of a file with these tensors, marked as torch's, sorted by name within each format.
pub(super) fn encode(tensors: &[Named<'_>]) -> Vec<u8> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(tensors.iter().map(view), Some(metadata))
        .expect("names of matrices are short enough for the header")
}

fn view<'a>(tensor: &Named<'a>) -> (String, TensorView<'a>) {
    let (dtype, bytes): (_, &[u8]) = match tensor.numbers {
        Numbers::F32(numbers) => (Dtype::F32, bytemuck::cast_slice(numbers)),
        Numbers::U8(numbers) => (Dtype::U8, numbers),
    };
    let view = TensorView::new(dtype, tensor.shape.clone(), bytes);
    (
        tensor.name.clone(),
        view.expect("shape and numbers come from one matrix"),
    )
}

/// A file that is read tensor by tensor; at the end nothing may be left over.
pub(super) struct Reader<'a> {
    file: &'static str,
    tensors: SafeTensors<'a>,
    taken: HashSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'static str, bytes: &'a [u8]) -> Result<Self, CheckpointError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|source| CheckpointError::Tensors { file, source })?;
        Ok(Self {
            file,
            tensors,
            taken: HashSet::new(),
        })
    }

    /// The numbers of an f32 tensor of this shape.
    pub(super) fn f32(
        &mut self,
        name: String,
        shape: &[usize],
    ) -> Result<Vec<f32>, CheckpointError> {
        let bytes = self.take(name, Dtype::F32, shape)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|number| f32::from_le_bytes(*number))
            .collect())
    }

    /// The numbers of a byte tensor of this shape.
    pub(super) fn u8(&mut self, name: String, shape: &[usize]) -> Result<Vec<u8>, CheckpointError> {
        Ok(self.take(name, Dtype::U8, shape)?.to_vec())
    }

    fn take(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<&'a [u8], CheckpointError> {
        let file = self.file;
        let Ok(view) = self.tensors.tensor(&name) else {
            return Err(CheckpointError::NoTensor { file, tensor: name });
        };
        if view.dtype() != dtype || view.shape() != shape {
            return Err(CheckpointError::Mismatch {
                file,
                tensor: name,
                found: format!("{:?} {:?}", view.dtype(), view.shape()),
                expected: format!("{dtype:?} {shape:?}"),
            });
        }
        self.taken.insert(name);
        Ok(view.data())
    }

    /// Refuses a file that holds more than was asked for.
    pub(super) fn finish(self) -> Result<(), CheckpointError> {
        let left = self
            .tensors
            .names()
            .into_iter()
            .filter(|name| !self.taken.contains(*name));
        match left.min() {
            None => Ok(()),
            Some(tensor) => Err(CheckpointError::UnknownTensor {
                file: self.file,
                tensor: tensor.to_owned(),
            }),
        }
    }
}
