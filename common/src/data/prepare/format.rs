//! The files of a prepared dataset. All numbers are little-endian.
//!
//! * `rows.bin`: per row its token ids (u32), then the mask, one bit a token from the lowest, padded to a multiple of 4 bytes.
//! * `rows.idx`: per row 16 bytes: where it starts in `rows.bin` (u64), tokens (u32), supervised tokens (u32).
//! * `manifest.json`: sizes and digests of both, and the report; written last.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::data::{PrepareReport, Row, RowStat};
use crate::storage::FileEntry;

/// Grows when the files change their meaning.
pub(super) const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const ROWS_BIN: &str = "rows.bin";
pub(super) const ROWS_IDX: &str = "rows.idx";
/// Bytes of a record of `rows.idx`.
pub(super) const RECORD: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) files: Vec<FileEntry>,
    pub(super) report: PrepareReport,
}

impl Manifest {
    pub(super) fn new(files: &[FileEntry], report: PrepareReport) -> Self {
        Self {
            format: FORMAT,
            files: files.to_vec(),
            report,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self)
            .expect("plain structs of text and numbers are always JSON");
        text.push(b'\n');
        text
    }
}

/// Where a row lies in `rows.bin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) start: u64,
    pub(super) stat: RowStat,
}

impl Record {
    /// **Panics**: if `bytes` are not [`RECORD`] many.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let word =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self {
            start: u64::from(word(0)) | u64::from(word(4)) << 32,
            stat: RowStat {
                tokens: word(8),
                supervised: word(12),
            },
        }
    }

    /// Bytes of the row in `rows.bin`.
    pub(super) fn len(&self) -> u64 {
        let tokens = u64::from(self.stat.tokens);
        tokens * 4 + mask_bytes(tokens)
    }
}

fn mask_bytes(tokens: u64) -> u64 {
    tokens.div_ceil(32) * 4
}

/// Gathers `rows.idx` while rows are appended to `rows.bin`.
#[derive(Debug, Default)]
pub(super) struct IndexWriter {
    index: Vec<u8>,
    end: u64,
    buffer: Vec<u8>,
}

impl IndexWriter {
    /// Writes one row.
    pub(super) fn append(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<RowStat> {
        self.buffer.clear();
        self.buffer
            .extend(row.tokens.iter().flat_map(|token| token.to_le_bytes()));
        for word in row.supervised.chunks(32) {
            let bits = word
                .iter()
                .enumerate()
                .fold(0u32, |bits, (at, on)| bits | u32::from(*on) << at);
            self.buffer.extend(bits.to_le_bytes());
        }
        out.write_all(&self.buffer)?;
        let supervised = row.supervised.iter().filter(|on| **on).count();
        let stat = RowStat {
            tokens: row.tokens.len() as u32,
            supervised: supervised as u32,
        };
        self.index.extend(self.end.to_le_bytes());
        self.index.extend(stat.tokens.to_le_bytes());
        self.index.extend(stat.supervised.to_le_bytes());
        self.end += self.buffer.len() as u64;
        Ok(stat)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.index
    }
}

/// Reads a row as [`IndexWriter::append`] wrote it.
pub(super) fn read_row(bytes: &[u8], tokens: u32) -> Row {
    let tokens = tokens as usize;
    let (ids, mask) = bytes.split_at(tokens * 4);
    let ids = ids
        .chunks_exact(4)
        .map(|id| u32::from_le_bytes(id.try_into().expect("four bytes")));
    Row {
        tokens: ids.collect(),
        supervised: (0..tokens)
            .map(|at| mask[at / 8] >> (at % 8) & 1 == 1)
            .collect(),
    }
}
