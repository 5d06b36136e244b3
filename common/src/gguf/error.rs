//! Why a GGUF file cannot be read: what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// A GGUF file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("gguf file {}: {problem}", path.display())]
pub struct GgufError {
    path: PathBuf,
    #[source]
    problem: Box<Problem>,
}

impl GgufError {
    pub(super) fn new(path: &Path, problem: Problem) -> Self {
        Self {
            path: path.to_owned(),
            problem: Box::new(problem),
        }
    }
}

/// What is wrong, without the file's name.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("cannot be opened: {0}; check the path and its permissions")]
    Io(#[source] io::Error),
    #[error(
        "starts with bytes {found:02x?} instead of \"GGUF\"; it is not a GGUF file, or a download that left an error page"
    )]
    Magic { found: Vec<u8> },
    #[error(
        "container version {version} is not supported (2 and 3 are); convert the model again with a current llama.cpp"
    )]
    Version { version: u32 },
    #[error(
        "truncated: {what} at byte {offset} needs {needed} more bytes, the file has {left} left; copy or download it again"
    )]
    Truncated {
        what: String,
        offset: u64,
        needed: u64,
        left: u64,
    },
    #[error("corrupt: {what} at byte {offset}: {detail}; copy or download it again")]
    Corrupt {
        what: String,
        offset: u64,
        detail: String,
    },
    #[error(
        "tensor {tensor} has type {kind}, which weft cannot read; convert the model to one of {}",
        super::GgmlType::names()
    )]
    TensorType { tensor: String, kind: String },
    #[error(
        "metadata `{key}` is missing; the file is incomplete for its use, convert the model again"
    )]
    MissingKey { key: String },
    #[error("metadata `{key}` is {found}, expected {expected}; convert the model again")]
    WrongType {
        key: String,
        found: &'static str,
        expected: &'static str,
    },
}

/// Boxed, so that the parser's results stay small.
pub(super) type Checked<T> = Result<T, Box<Problem>>;
