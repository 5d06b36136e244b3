//! Files read through the page cache, without a copy of their own.
#![allow(
    unsafe_code,
    reason = "mapping a file into memory has no safe interface; this module is the only place that does it"
)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// A whole file, mapped read-only. Pages come in as they are touched and may leave again under memory pressure.
#[derive(Debug)]
pub struct MappedFile(Option<memmap2::Mmap>);

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // An empty mapping is refused by the system, an empty file is not.
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the mapping is read-only, and weft replaces files by renaming, never in place, so that the mapped
        // bytes change only if a stranger truncates or rewrites the file while weft runs.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
