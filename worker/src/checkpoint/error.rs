//! Why a checkpoint could not be written or read.

use std::path::PathBuf;

use safetensors::SafeTensorError;
use weft_common::checkpoint::{Defect, Incompatible, UploadError};
use weft_common::id::Digest;
use weft_common::storage::StorageError;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be written or read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder is not a complete checkpoint.
    #[error("{} is not a complete checkpoint: {defect}", folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        defect: Defect,
    },
    /// It is complete on this machine's disk, but not in the shared store.
    #[error("{source}; the checkpoint lies only on this machine, in {}", folder.display())]
    NotShared {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: UploadError,
    },
    /// It lies on another machine's disk and cannot be had from the shared store.
    #[error("{} is not on this machine and cannot be fetched: {defect}", folder.display())]
    NotFetched {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it or the store.
        defect: Defect,
    },
    /// It belongs to another recipe, model or dataset.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// A peer's state has other sizes.
    #[error(
        "it has {found} bytes of arrays, and this adapter and its optimizer {expected}; all workers of a job must load the same recipe and base model"
    )]
    SentSize {
        /// What came.
        found: usize,
        /// What this worker has.
        expected: usize,
    },
    /// A peer's state was damaged on its way.
    #[error("its digest is {found}, and its header says {expected}; start this worker again")]
    SentState {
        /// Of what came.
        found: Digest,
        /// What the header says.
        expected: Digest,
    },
    /// A tensor file is damaged.
    #[error("{file} is not a valid safetensors file: {source}; take an earlier checkpoint")]
    Tensors {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        source: SafeTensorError,
    },
    /// A tensor file lacks a matrix.
    #[error(
        "{file} has no tensor `{tensor}`; it belongs to another adapter, take the checkpoint of this recipe"
    )]
    NoTensor {
        /// The file.
        file: &'static str,
        /// The tensor.
        tensor: String,
    },
    /// A tensor file holds something that the adapter does not have.
    #[error(
        "{file} has a tensor `{tensor}` that this adapter lacks; take the checkpoint of this recipe"
    )]
    UnknownTensor {
        /// The file.
        file: &'static str,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another format or shape.
    #[error(
        "{file}: tensor `{tensor}` is {found}, this adapter needs {expected}; take the checkpoint of this recipe"
    )]
    Mismatch {
        /// The file.
        file: &'static str,
        /// The tensor.
        tensor: String,
        /// What is there.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// A JSON file is damaged.
    #[error("{file} is damaged: {source}; take an earlier checkpoint")]
    Json {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// All files are as they were written, but what they hold is not what the members agreed on.
    #[error("the state in {} has digest {found}, its manifest says {expected}; take an earlier checkpoint", folder.display())]
    State {
        /// The folder.
        folder: PathBuf,
        /// Of what was read.
        found: Digest,
        /// What the manifest says.
        expected: Digest,
    },
}
