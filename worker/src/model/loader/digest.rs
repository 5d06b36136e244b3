//! The base model's digest: equal on two machines only if both hold the same configuration and weights.
//!
//! A two-level tree, so that all cores hash: a file's digest is SHA-256 over its length and the SHA-256 of each of its
//! 1 MiB chunks, the model's is SHA-256 over a tag and its files' digests in the order of their names. File names do not
//! count, nor does any file that does not shape the computation (tokenizers have a digest of their own).

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use rayon::ThreadPoolBuilder;
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
    digest_files(&files(path)?)
}

/// Does `work` while the base model at `path` is digested, where its digest is not `known`: what one of them has read, the
/// other finds in the system's cache.
pub(super) fn beside_digest<T>(
    path: &Path,
    known: Option<Digest>,
    work: impl FnOnce() -> Result<T, LoadError>,
) -> Result<(T, Digest), LoadError> {
    // Threads of its own: those that load would take its chunks before their work.
    let threads = rayon::current_num_threads() / 2;
    match known {
        Some(digest) => Ok((work()?, digest)),
        None if threads == 0 => {
            let digest = model_digest(path)?;
            Ok((work()?, digest))
        }
        None => thread::scope(|scope| {
            let digest = scope.spawn(|| digest_on(threads, path));
            let done = work()?;
            let digest = digest.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok((done, digest))
        }),
    }
}

fn digest_on(threads: usize, path: &Path) -> Result<Digest, LoadError> {
    match ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(|| model_digest(path)),
        Err(_) => model_digest(path),
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    Ok(match Location::find(path)? {
        Location::Gguf(file) => vec![file],
        Location::Folder { config, shards } => std::iter::once(config).chain(shards).collect(),
    })
}

/// Bytes of the files that make the base model at `path`.
pub(super) fn file_bytes(path: &Path) -> Result<u64, LoadError> {
    let len = |path: &PathBuf| RangeFile::open(path).map(|file| file.len());
    files(path)?.iter().map(len).sum()
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
