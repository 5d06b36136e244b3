//! Why a base model could not be loaded: what, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A base model that cannot be loaded, or not as the recipe asks.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing lies at the path.
    #[error("base model {} does not exist; set model.base_model to a Hugging Face folder or a .gguf file", path.display())]
    NotFound {
        /// What `model.base_model` resolved to.
        path: PathBuf,
    },
    /// A file or folder that is neither a Hugging Face folder nor GGUF.
    #[error("{} is not a base model: {found}; {remedy}", path.display())]
    NotAModel {
        /// The path looked at.
        path: PathBuf,
        /// What lies there instead.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A file that the folder should hold.
    #[error("{} is missing {file}; {remedy}", folder.display())]
    MissingFile {
        /// The model's folder.
        folder: PathBuf,
        /// The absent file.
        file: String,
        /// What to do.
        remedy: String,
    },
    /// The operating system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A configuration value that is absent or makes no sense.
    #[error("{}: {problem}", path.display())]
    Config {
        /// `config.json`, or the GGUF file.
        path: PathBuf,
        /// Key, value and remedy.
        problem: String,
    },
    /// A model family that weft does not know.
    #[error("{}: architecture `{found}` is not supported; supported are {}", path.display(), supported.join(", "))]
    UnsupportedArchitecture {
        /// `config.json`, or the GGUF file.
        path: PathBuf,
        /// The family's name as the file gives it.
        found: String,
        /// What can be loaded instead.
        supported: &'static [&'static str],
    },
    /// A file whose structure contradicts itself or ends early.
    #[error("{} is damaged: {problem}; download or copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not add up, with the values.
        problem: String,
    },
    /// A tensor that the model needs and the file lacks.
    #[error("{} has no tensor `{tensor}`; the checkpoint is incomplete or its configuration describes another model", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name in that format.
        tensor: String,
    },
    /// A tensor of another size than the configuration says.
    #[error("tensor `{tensor}` in {} has shape {found:?}, but the model's configuration asks for {expected:?}; weights and configuration belong to different models", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Rows and columns by the configuration.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// A number format that weft does not read.
    #[error("tensor `{tensor}` in {} has type {found}, which is not supported; {remedy}", path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type's name.
        found: String,
        /// What to use instead.
        remedy: String,
    },
    /// The GGUF container cannot be read.
    #[error(transparent)]
    Gguf(#[from] weft_common::gguf::GgufError),
    /// Rows longer than the model was made for.
    #[error(
        "model.max_seq_length {max_seq_length} exceeds the model's context of {context} tokens; lower it to {context} or less, or take a base model with a longer context"
    )]
    Context {
        /// What the recipe asks for.
        max_seq_length: usize,
        /// What the model offers.
        context: usize,
    },
}

impl LoadError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn config(path: &Path, problem: impl Into<String>) -> Self {
        Self::Config {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
