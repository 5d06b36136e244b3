//! The directory of one safetensors file, checked before any tensor is read.
//!
//! Format: 8 bytes little-endian header length, a JSON object name → {dtype, shape, `data_offsets`}, then the data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::LoadError;
use super::file::RangeFile;

/// The reference implementation's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Where one tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The number format as the file names it: `BF16`, `F16`, `F32`, `U8`, …
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    /// From the start of the file.
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Reads and checks the directory of `file`.
pub(super) fn read_directory(file: &RangeFile) -> Result<BTreeMap<String, Entry>, LoadError> {
    let damaged = |problem: String| LoadError::damaged(file.path(), problem);
    if file.len() < 8 {
        return Err(damaged(format!(
            "{} bytes are too few for a safetensors header",
            file.len()
        )));
    }
    let mut length = [0; 8];
    file.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > file.len() - 8 {
        return Err(damaged(format!(
            "its header claims {length} bytes, the file has {} after the length",
            file.len() - 8
        )));
    }
    let header = file.bytes(8, length as usize)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&header)
        .map_err(|e| damaged(format!("its header is not a JSON object ({e})")))?;
    let mut entries = BTreeMap::new();
    for (name, value) in header {
        if name != "__metadata__" {
            let entry = check_entry(file, 8 + length, &name, value)?;
            entries.insert(name, entry);
        }
    }
    Ok(entries)
}

fn check_entry(
    file: &RangeFile,
    data: u64,
    name: &str,
    value: serde_json::Value,
) -> Result<Entry, LoadError> {
    let damaged =
        |problem: String| LoadError::damaged(file.path(), format!("tensor `{name}` {problem}"));
    let raw: RawEntry = serde_json::from_value(value)
        .map_err(|e| damaged(format!("has a malformed header entry ({e})")))?;
    let (begin, end) = raw.data_offsets;
    let available = file.len() - data;
    if begin > end || end > available {
        return Err(damaged(format!(
            "lies at bytes {begin}..{end}, but the file holds {available} bytes of data"
        )));
    }
    if let Some(width) = width(&raw.dtype) {
        let elements = raw
            .shape
            .iter()
            .try_fold(1_u64, |n, &d| n.checked_mul(d as u64));
        let needed = elements.and_then(|n| n.checked_mul(width));
        if needed != Some(end - begin) {
            return Err(damaged(format!(
                "of type {} and shape {:?} has {} bytes",
                raw.dtype,
                raw.shape,
                end - begin
            )));
        }
    }
    Ok(Entry {
        dtype: raw.dtype,
        shape: raw.shape,
        offset: data + begin,
        bytes: (end - begin) as usize,
    })
}

/// Bytes of one element; `None` for formats that are only ever refused by name.
fn width(dtype: &str) -> Option<u64> {
    match dtype {
        "F64" | "I64" | "U64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "BF16" | "F16" | "I16" | "U16" => Some(2),
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        _ => None,
    }
}

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The names of the shards that an index file lists, each once, sorted.
pub(super) fn read_index(path: &Path) -> Result<Vec<String>, LoadError> {
    let text = std::fs::read(path).map_err(|source| LoadError::read(path, source))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| {
        LoadError::damaged(
            path,
            format!("it is not an index of safetensors shards ({e})"),
        )
    })?;
    let mut shards: Vec<String> = index.weight_map.into_values().collect();
    shards.sort_unstable();
    shards.dedup();
    for shard in &shards {
        if shard.contains(['/', '\\']) {
            return Err(LoadError::damaged(
                path,
                format!("shard `{shard}` lies outside of the folder"),
            ));
        }
    }
    Ok(shards)
}
