//! Files read by range.
//!
//! Ranges are read, not mapped: the resident set stays at the buffers in use, a file cut short while it is read is an
//! error instead of a signal, and any thread may read its own part.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::error::LoadError;

/// An open file with its length.
#[derive(Debug)]
pub(super) struct RangeFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl RangeFile {
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path).map_err(|source| LoadError::read(path, source))?;
        let len = file
            .metadata()
            .map_err(|source| LoadError::read(path, source))?
            .len();
        Ok(Self {
            file,
            path: path.to_owned(),
            len,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out` from `offset`.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), LoadError> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|source| LoadError::read(&self.path, source))
    }

    /// The `len` bytes from `offset` on.
    pub(super) fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, LoadError> {
        let mut out = vec![0; len];
        self.read_at(offset, &mut out)?;
        Ok(out)
    }
}

/// Scratch bytes aligned for every number format, kept between reads.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<u64>);

impl Scratch {
    /// The first `len` bytes, whatever they hold.
    pub(super) fn bytes(&mut self, len: usize) -> &mut [u8] {
        self.0.resize(self.0.len().max(len.div_ceil(8)), 0);
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }
}
