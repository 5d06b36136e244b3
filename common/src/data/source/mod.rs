//! Files of rows, read one row at a time.

mod csv;
mod json;

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value};

use super::DataError;
use crate::mapped::MappedFile;

/// Column name → value, in the file's order. An empty csv cell is null.
pub(super) type RawRow = Map<String, Value>;

/// Takes a row and how many bytes of the file have been read.
pub(super) type Visitor<'a> = dyn FnMut(RawRow, u64) -> ControlFlow<()> + 'a;

/// Calls `visit` with every row of the file until it breaks off.
pub(super) fn read(path: &Path, visit: &mut Visitor<'_>) -> Result<(), DataError> {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    let ending = ending.as_deref().unwrap_or_default();
    if !["csv", "tsv", "json", "jsonl", "ndjson"].contains(&ending) {
        return Err(DataError::UnknownType {
            path: path.to_owned(),
        });
    }
    let file = MappedFile::open(path).map_err(DataError::read(path))?;
    let malformed = |(line, detail)| DataError::Malformed {
        path: path.to_owned(),
        line,
        detail,
    };
    match ending {
        "csv" => csv::read(&file, b',', visit),
        "tsv" => csv::read(&file, b'\t', visit),
        "json" => json::read(&file, visit),
        _ => json::read_lines(&file, visit),
    }
    .map_err(malformed)
}

/// Line and what is wrong there.
type Fault = (u64, String);

#[cfg(test)]
mod tests;
