//! A Hugging Face folder as a source of weights: one or many safetensors files, 16-bit and 4-bit tensors mixed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bnb;
use super::error::LoadError;
use super::file::{RangeFile, Scratch};
use super::floats::FloatType;
use super::names::TensorRole;
use super::safetensors::{self, Entry};
use super::source::{ReadRows, Rows, Stored, WeightSource};

/// The open files of a folder and the tensors in them.
#[derive(Debug)]
pub(super) struct Folder {
    /// Where to look for what is missing.
    path: PathBuf,
    files: Vec<RangeFile>,
    tensors: BTreeMap<String, Located>,
}

/// A tensor and the file it lies in.
#[derive(Debug)]
pub(super) struct Located {
    file: usize,
    pub(super) entry: Entry,
}

impl Folder {
    /// Opens every shard and checks its directory.
    pub(super) fn open(shards: &[PathBuf]) -> Result<Self, LoadError> {
        let mut files = Vec::with_capacity(shards.len());
        let mut tensors = BTreeMap::new();
        for (index, path) in shards.iter().enumerate() {
            let file = RangeFile::open(path)?;
            for (name, entry) in safetensors::read_directory(&file)? {
                tensors.insert(name, Located { file: index, entry });
            }
            files.push(file);
        }
        let path = match shards {
            [single] => single.clone(),
            many => many
                .first()
                .and_then(|shard| shard.parent())
                .unwrap_or(Path::new(""))
                .to_owned(),
        };
        Ok(Self {
            path,
            files,
            tensors,
        })
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn locate(&self, name: &str) -> Result<&Located, LoadError> {
        self.tensors
            .get(name)
            .ok_or_else(|| LoadError::MissingTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
            })
    }

    pub(super) fn file_of(&self, tensor: &Located) -> &RangeFile {
        &self.files[tensor.file]
    }

    /// All bytes of a tensor.
    pub(super) fn bytes(&self, tensor: &Located) -> Result<Vec<u8>, LoadError> {
        self.file_of(tensor)
            .bytes(tensor.entry.offset, tensor.entry.bytes)
    }
}

impl WeightSource for Folder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_quantized(&self) -> bool {
        self.tensors.keys().any(|name| bnb::is_state(name))
    }

    fn has(&self, role: TensorRole) -> bool {
        self.contains(&role.hugging_face())
    }

    fn find(&self, role: TensorRole, shape: &[usize]) -> Result<Stored<'_>, LoadError> {
        let name = role.hugging_face();
        if let Some(state) = bnb::find_state(self, &name)? {
            return bnb::read(self, &name, &state, shape).map(Stored::Nf4);
        }
        let tensor = self.locate(&name)?;
        let file = self.file_of(tensor);
        let Some(float) = FloatType::named(&tensor.entry.dtype) else {
            return Err(LoadError::UnsupportedType {
                path: file.path().to_owned(),
                tensor: name,
                found: tensor.entry.dtype.clone(),
                remedy: "take a checkpoint in BF16, F16 or F32, or one in bitsandbytes NF4"
                    .to_owned(),
            });
        };
        if tensor.entry.shape != shape {
            return Err(LoadError::Shape {
                path: file.path().to_owned(),
                tensor: name,
                expected: shape.to_vec(),
                found: tensor.entry.shape.clone(),
            });
        }
        let reader = FloatRows {
            file,
            offset: tensor.entry.offset,
            float,
            cols: shape.last().copied().unwrap_or(1),
        };
        Ok(Stored::Rows(Rows {
            path: file.path(),
            name,
            reader: Box::new(reader),
        }))
    }
}

/// Rows of 16-bit or 32-bit floats.
struct FloatRows<'a> {
    file: &'a RangeFile,
    offset: u64,
    float: FloatType,
    cols: usize,
}

impl ReadRows for FloatRows<'_> {
    fn read(&self, first: usize, scratch: &mut Scratch, out: &mut [f32]) -> Result<(), LoadError> {
        let bytes = scratch.bytes(out.len() * self.float.width());
        let skipped = first * self.cols * self.float.width();
        self.file.read_at(self.offset + skipped as u64, bytes)?;
        self.float.widen(bytes, out);
        Ok(())
    }

    fn format(&self) -> Option<FloatType> {
        Some(self.float)
    }

    fn plain(&self) -> Option<(&RangeFile, u64)> {
        Some((self.file, self.offset))
    }
}
