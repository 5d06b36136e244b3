//! The base model's digest: equal on two machines only if both hold the same configuration and weights.
//!
//! A two-level tree, so that all cores hash: a file's digest is SHA-256 over its length and the SHA-256 of each of its
//! 1 MiB chunks, the model's is SHA-256 over a tag and its files' digests in the order of their names. File names do not
//! count, nor does any file that does not shape the computation (tokenizers have a digest of their own).

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use weft_common::id::Digest;

use super::error::LoadError;
use super::file::RangeFile;
use super::location::Location;

const CHUNK_BYTES: u64 = 1 << 20;
const TAG: &[u8] = b"weft base model v1";

/// Digests the base model at `path`. **Cost**: reads every weight file once, about 1 s per core for 1.5 GB.
///
/// # Errors
/// The path is no base model, or a file cannot be read.
pub fn model_digest(path: &Path) -> Result<Digest, LoadError> {
    let files = match Location::find(path)? {
        Location::Gguf(file) => vec![file],
        Location::Folder { config, shards } => std::iter::once(config).chain(shards).collect(),
    };
    digest_files(&files)
}

fn digest_files(files: &[PathBuf]) -> Result<Digest, LoadError> {
    let mut model = Sha256::new_with_prefix(TAG);
    for path in files {
        model.update(digest_file(&RangeFile::open(path)?)?.0);
    }
    Ok(Digest(model.finalize().into()))
}

fn digest_file(file: &RangeFile) -> Result<Digest, LoadError> {
    let chunks: Vec<[u8; 32]> = (0..file.len().div_ceil(CHUNK_BYTES))
        .into_par_iter()
        .map_init(Vec::new, |buffer, chunk| {
            let offset = chunk * CHUNK_BYTES;
            let len = CHUNK_BYTES.min(file.len() - offset);
            buffer.resize(len as usize, 0);
            file.read_at(offset, buffer)?;
            Ok(Sha256::digest(&buffer[..]).into())
        })
        .collect::<Result<_, LoadError>>()?;
    let mut whole = Sha256::new_with_prefix(file.len().to_le_bytes());
    for chunk in chunks {
        whole.update(chunk);
    }
    Ok(Digest(whole.finalize().into()))
}
