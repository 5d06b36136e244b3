//! A prepared dataset, read row by row.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, MANIFEST, Manifest, RECORD, ROWS_BIN, ROWS_IDX, Record};
use crate::data::{DataError, PrepareReport, Row, RowStat};
use crate::id::Digest;
use crate::mapped::MappedFile;
use crate::storage::FileEntry;

/// A prepared dataset: a folder of `rows.bin`, `rows.idx` and `manifest.json`, read through the page cache.
#[derive(Debug)]
pub struct Prepared {
    dir: PathBuf,
    manifest: Manifest,
    rows: MappedFile,
    index: MappedFile,
    stats: Arc<[RowStat]>,
}

impl Prepared {
    /// Opens the folder, and checks sizes and that every row lies inside its file.
    ///
    /// # Errors
    /// When a file is missing, cut off, or of another format.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let damaged = |detail: String| DataError::Damaged {
            dir: dir.to_owned(),
            detail,
        };
        let text = std::fs::read(dir.join(MANIFEST))
            .map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
        if manifest.format != format::FORMAT {
            return Err(damaged(format!(
                "format {}, this program reads {}",
                manifest.format,
                format::FORMAT
            )));
        }
        let map = |name: &str| {
            let entry = manifest.files.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| damaged(format!("{MANIFEST} does not list {name}")))?;
            let file = MappedFile::open(&dir.join(name))
                .map_err(|error| damaged(format!("{name}: {error}")))?;
            if file.len() as u64 != entry.size {
                return Err(damaged(format!(
                    "{name} has {} bytes, not {}",
                    file.len(),
                    entry.size
                )));
            }
            Ok(file)
        };
        let (rows, index) = (map(ROWS_BIN)?, map(ROWS_IDX)?);
        let stats = read_index(&index, rows.len() as u64).map_err(damaged)?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            rows,
            index,
            stats,
        })
    }

    /// Compares every byte with the digests of the manifest.
    ///
    /// # Errors
    /// When a file is not as it was written.
    pub fn verify(&self) -> Result<(), DataError> {
        for entry in &self.manifest.files {
            let content: &[u8] = if entry.name == ROWS_BIN {
                &self.rows
            } else {
                &self.index
            };
            if Digest::of(content) != entry.sha256 {
                return Err(DataError::Damaged {
                    dir: self.dir.clone(),
                    detail: format!("{} is not what was written", entry.name),
                });
            }
        }
        Ok(())
    }

    /// Identifies the rows: equal digests mean equal tokens and masks in equal order.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let digests = self.manifest.files.iter().flat_map(|entry| entry.sha256.0);
        Digest::of(&digests.collect::<Vec<u8>>())
    }

    /// Tokens and supervised tokens of every row.
    #[must_use]
    pub fn stats(&self) -> Arc<[RowStat]> {
        self.stats.clone()
    }

    /// One row.
    ///
    /// # Panics
    /// When there is no row `index`.
    #[must_use]
    pub fn row(&self, index: u32) -> Row {
        let record = self.record(index);
        let start = usize::try_from(record.start)
            .expect("checked against the mapped length when it was opened");
        let len = usize::try_from(record.len())
            .expect("checked against the mapped length when it was opened");
        format::read_row(&self.rows[start..start + len], record.stat.tokens)
    }

    fn record(&self, index: u32) -> Record {
        let at = index as usize * RECORD;
        Record::read(&self.index[at..at + RECORD])
    }

    /// What preparing showed.
    #[must_use]
    pub fn report(&self) -> &PrepareReport {
        &self.manifest.report
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of the file that is written last when the folder is copied; [`Self::files`] are the others.
    #[must_use]
    pub fn manifest_name() -> &'static str {
        MANIFEST
    }

    /// The files that the manifest lists, for copying the folder elsewhere.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.manifest.files
    }
}

/// Checks that rows follow one another without gaps up to the end of `rows.bin`.
fn read_index(index: &[u8], rows_bytes: u64) -> Result<Arc<[RowStat]>, String> {
    if !index.len().is_multiple_of(RECORD) {
        return Err(format!(
            "{ROWS_IDX} has {} bytes, not a multiple of {RECORD}",
            index.len()
        ));
    }
    let mut end = 0;
    let mut stats = Vec::with_capacity(index.len() / RECORD);
    for (number, bytes) in index.chunks_exact(RECORD).enumerate() {
        let record = Record::read(bytes);
        if record.start != end || record.stat.supervised >= record.stat.tokens.max(1) {
            return Err(format!("record {number} of {ROWS_IDX} is impossible"));
        }
        end += record.len();
        stats.push(record.stat);
    }
    if end != rows_bytes {
        return Err(format!(
            "{ROWS_IDX} speaks of {end} bytes, {ROWS_BIN} has {rows_bytes}"
        ));
    }
    Ok(stats.into())
}
