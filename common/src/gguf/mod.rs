//! The GGUF container: metadata and a directory of tensors in front of their bytes.
//!
//! ```text
//! header → metadata (key, typed value)… → tensor directory (name, dims, type, offset)… → padding → tensor bytes
//! ```
//!
//! [`GgufFile::open`] checks the whole front part, and that every tensor lies inside the file; reading a tensor's bytes
//! afterwards cannot fail. Nothing is allocated on the word of a count that the file's length does not back.
//! Source: ggml `docs/gguf.md`, versions 2 and 3, little-endian.

mod cursor;
mod directory;
mod error;
mod kind;
mod value;

use std::path::{Path, PathBuf};

pub use directory::TensorInfo;
pub use error::GgufError;
pub use kind::GgmlType;
pub use value::{Metadata, Value};

use crate::mapped::MappedFile;
use directory::Front;
use error::Problem;

/// An open GGUF file; tensor bytes are read through the page cache.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: MappedFile,
    front: Front,
}

impl GgufFile {
    /// Opens the file and checks its front part and the extent of every tensor.
    ///
    /// # Errors
    /// Names the file, the byte offset and the remedy when it is no GGUF file, is truncated or corrupt, or holds a
    /// tensor type that weft cannot read.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let fail = |problem: Problem| GgufError::new(path, problem);
        let map = MappedFile::open(path).map_err(|source| fail(Problem::Io(source)))?;
        let front = directory::read_front(&map).map_err(|problem| fail(*problem))?;
        Ok(Self {
            path: path.to_owned(),
            map,
            front,
        })
    }

    /// Whether the file at `path` starts as a GGUF file does, whatever its name.
    #[must_use]
    pub fn is_gguf(path: &Path) -> bool {
        use std::io::Read as _;
        let mut magic = [0; 4];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        read.is_ok() && &magic == directory::MAGIC
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Container version, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.front.version
    }

    /// The metadata, in file order.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.front.metadata
    }

    /// The tensor directory, in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.front.tensors
    }

    /// The directory entry of the tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let index = *self.front.by_name.get(name)?;
        self.front.tensors.get(index)
    }

    /// The stored bytes of a tensor of this file's directory, still quantized.
    ///
    /// # Panics
    /// When `tensor` belongs to another file and does not fit into this one.
    #[must_use]
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let start = usize::try_from(tensor.offset)
            .expect("checked against the mapped length when the file was opened");
        let len = usize::try_from(tensor.byte_len)
            .expect("checked against the mapped length when the file was opened");
        &self.map[start..start + len]
    }
}

#[cfg(test)]
mod tests;
