//! Preparing a dataset: every row rendered, tokenized and masked once, and kept by the digest of what it came from.
//!
//! ```text
//! reading thread ──waves of rows──▶ all cores: example → text → tokens, mask ──in order──▶ rows.bin, rows.idx, manifest.json
//! ```
//!
//! At most three waves are in memory. The folder is written beside its place and moved there whole, manifest last, so that any number of
//! processes may prepare the same dataset at a time.

mod format;
mod key;
mod pipeline;
mod prepared;

use std::path::Path;

use super::{ChatTokenizer, DataError, PrepareReport};
use crate::recipe::Recipe;
use crate::storage::{self, FolderWriter};
use format::{IndexWriter, MANIFEST, Manifest, ROWS_BIN, ROWS_IDX};
pub use prepared::Prepared;

/// How far the files have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Bytes read.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// Prepares the recipe's datasets, or finds them prepared in `cache_dir`.
///
/// **Cost**: with a cache hit, one pass over the files' bytes and the prepared ones. Otherwise bounded memory, and all cores or
/// `training.dataset_num_proc` of them.
///
/// # Errors
/// When a file cannot be read, a column is missing, the chat template does not fit, or no row is left. The cache is then as before.
pub fn prepare(
    recipe: &Recipe,
    tokenizer: &ChatTokenizer,
    cache_dir: &Path,
    progress: &dyn Fn(PrepareProgress),
) -> Result<Prepared, DataError> {
    let dir = cache_dir.join(key::cache_key(recipe, tokenizer)?.to_string());
    if let Some(prepared) = whole(&dir) {
        return Ok(prepared);
    }
    storage::create_folder(cache_dir)?;
    let beside = cache_dir.join(format!("preparing-{}", uuid::Uuid::now_v7().simple()));
    let report = write(recipe, tokenizer, &beside, progress)?;
    storage::move_folder(&beside, &dir, MANIFEST, || whole(&dir).is_some())?;
    tracing::info!(rows = report.rows, tokens = report.tokens, dir = %dir.display(), "dataset prepared");
    Prepared::open(&dir)
}

/// The prepared dataset at `dir`, if it is there and every byte of it as it was written.
fn whole(dir: &Path) -> Option<Prepared> {
    if !dir.exists() {
        return None;
    }
    match Prepared::open(dir).and_then(|prepared| prepared.verify().map(|()| prepared)) {
        Ok(prepared) => Some(prepared),
        Err(error) => {
            tracing::warn!(%error, "making the prepared dataset again");
            None
        }
    }
}

fn write(
    recipe: &Recipe,
    tokenizer: &ChatTokenizer,
    folder: &Path,
    progress: &dyn Fn(PrepareProgress),
) -> Result<PrepareReport, DataError> {
    let mut writer = FolderWriter::create(folder, MANIFEST)?;
    let mut index = IndexWriter::default();
    let mut result = Ok(PrepareReport::default());
    writer.add(ROWS_BIN, |out| {
        result = pipeline::run(
            recipe,
            tokenizer,
            &mut |row| index.append(row, out),
            progress,
        );
        match &mut result {
            Err(pipeline::Failure::Write(error)) => {
                Err(std::mem::replace(error, std::io::ErrorKind::Other.into()))
            }
            Ok(_) | Err(pipeline::Failure::Data(_)) => Ok(()),
        }
    })?;
    let report = match result {
        Ok(report) => report,
        Err(pipeline::Failure::Data(error)) => return Err(error),
        Err(pipeline::Failure::Write(_)) => unreachable!("returned by the writer just above"),
    };
    if report.rows == 0 {
        let paths = recipe.datasets.iter().map(|dataset| dataset.path.as_str());
        return Err(DataError::NothingLeft {
            paths: paths.collect::<Vec<_>>().join(", "),
            read: report.rows_read,
            why: report.why(),
        });
    }
    writer.add(ROWS_IDX, |out| out.write_all(index.bytes()))?;
    let manifest = Manifest::new(writer.files(), report.clone());
    writer.finish(&manifest.to_json())?;
    Ok(report)
}

#[cfg(test)]
mod tests;
