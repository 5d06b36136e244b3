//! Why an export cannot be made.

use std::path::{Path, PathBuf};

use weft_common::data::TokenizerError;
use weft_common::id::Digest;
use weft_common::storage::StorageError;

use crate::model::loader::LoadError;

/// Why an export cannot be made. Whatever was there before is there still.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The adapter's files cannot be used.
    #[error("adapter {}: {problem}", path.display())]
    Adapter {
        /// Its folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// No base model is known, or none is there.
    #[error(
        "base model {} of adapter {} is not there; say where it is with --base",
        base.display(),
        adapter.display()
    )]
    NoBase {
        /// The adapter's folder.
        adapter: PathBuf,
        /// What the adapter names.
        base: PathBuf,
    },
    /// The adapter was trained on other weights.
    #[error(
        "adapter {} was trained on the base model with digest {expected}, {} has {found}; give the one that it was \
         trained on with --base, or say --allow-other-base where this is the same model in another form",
        adapter.display(),
        base.display()
    )]
    OtherBase {
        /// The adapter's folder.
        adapter: PathBuf,
        /// The base model that was given.
        base: PathBuf,
        /// What the adapter's record says.
        expected: Digest,
        /// What the base model is.
        found: Digest,
    },
    /// The base model is there in 4 bits only.
    #[error(
        "base model {} holds `{tensor}` in 4 bits; give the original with --base and --allow-other-base, or merge into \
         the 4-bit values with --merge-base nf4",
        base.display()
    )]
    OnlyNf4 {
        /// The base model.
        base: PathBuf,
        /// The first such tensor.
        tensor: String,
    },
    /// The base model cannot be read.
    #[error(transparent)]
    Base(#[from] LoadError),
    /// A merged number is not finite.
    #[error(
        "tensor `{tensor}` is {value} after merging; the adapter diverged or does not belong to this base model"
    )]
    NotFinite {
        /// Hugging Face's name of the tensor.
        tensor: String,
        /// The number.
        value: f32,
    },
    /// A merged number is finite, but has no place in the output's format.
    #[error(
        "tensor `{tensor}` reaches {value} after merging, which {format} cannot hold; choose another with {option}"
    )]
    TooLarge {
        /// Hugging Face's name of the tensor.
        tensor: String,
        /// The number.
        value: f32,
        /// What it was to become.
        format: &'static str,
        /// The option that chooses it.
        option: &'static str,
    },
    /// The tokenizer cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer has no place in a GGUF file.
    #[error("tokenizer cannot be put into a GGUF file: {problem}")]
    GgufTokenizer {
        /// What is in the way, and what would do.
        problem: String,
    },
    /// The format cannot be made of this model.
    #[error("{format} cannot be made of this model: {problem}")]
    Unsupported {
        /// What was asked for.
        format: &'static str,
        /// What is in the way.
        problem: String,
    },
    /// Something lies where the export is to be.
    #[error("{} is there already{}", path.display(), remedy)]
    Exists {
        /// Where.
        path: PathBuf,
        /// What to do, after a separator.
        remedy: &'static str,
    },
    /// Another export writes to the same place.
    #[error("another export into {} is running; wait for it, or choose another folder with --output", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The disk has less room than the export takes.
    #[error(
        "the export takes {needed} bytes, the disk of {} has {available} left; free some space, or choose another disk with --output",
        path.display()
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// What it takes.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A request to stop came.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl ExportError {
    pub(super) fn adapter(path: &Path, problem: impl Into<String>) -> Self {
        Self::Adapter {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
