//! Header, metadata and tensor directory: everything in front of the tensor bytes.

use std::collections::HashMap;

use super::GgmlType;
use super::cursor::{Cursor, corrupt};
use super::error::{Checked, Problem};
use super::value::{self, Metadata};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Where `general.alignment` does not say otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml's own limit.
const MAX_DIMS: u32 = 4;
/// Name length, dimension count, type and offset of a tensor with an empty name and no dimensions.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;
/// Key length, value type and a one-byte value.
const LEAST_KEY_BYTES: u64 = 8 + 4 + 1;

/// Where a tensor lies and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name as in the file, for example `blk.0.attn_q.weight`.
    pub name: String,
    /// Row-major, outermost first: a linear's weight is `[out, in]`.
    pub dims: Vec<u64>,
    /// How elements are stored.
    pub kind: GgmlType,
    /// Of the first byte, from the start of the file.
    pub offset: u64,
    /// Stored bytes.
    pub byte_len: u64,
}

impl TensorInfo {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

#[derive(Debug)]
pub(super) struct Front {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) by_name: HashMap<String, usize>,
}

/// Reads everything in front of the tensor bytes and checks that the latter are there.
pub(super) fn read_front(bytes: &[u8]) -> Checked<Front> {
    let mut cursor = Cursor::new(bytes);
    let version = read_magic_and_version(&mut cursor, bytes)?;
    let tensor_count = cursor.u64("tensor count")?;
    let key_count = cursor.u64("metadata count")?;
    let metadata = read_metadata(&mut cursor, key_count)?;
    let count = cursor.expect_count(tensor_count, LEAST_TENSOR_BYTES, "tensor directory")?;
    let mut tensors = Vec::with_capacity(count);
    for index in 0..count {
        tensors.push(read_tensor(&mut cursor, index)?);
    }
    place_tensors(&mut tensors, &cursor, alignment(&metadata, &cursor)?)?;
    let by_name = index_by_name(&tensors)?;
    Ok(Front {
        version,
        metadata,
        tensors,
        by_name,
    })
}

fn read_magic_and_version(cursor: &mut Cursor<'_>, bytes: &[u8]) -> Checked<u32> {
    let start = &bytes[..bytes.len().min(MAGIC.len())];
    if start != MAGIC {
        return Err(Box::new(Problem::Magic {
            found: start.to_vec(),
        }));
    }
    cursor.take(MAGIC.len() as u64, "magic")?;
    match cursor.u32("version")? {
        version @ (2 | 3) => Ok(version),
        version => Err(Box::new(Problem::Version { version })),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Checked<Metadata> {
    cursor.expect_count(count, LEAST_KEY_BYTES, "metadata")?;
    let mut metadata = Metadata::default();
    for index in 0..count {
        let key = cursor.string(&format!("key of metadata entry {index}"))?;
        let value = value::read_value(cursor, &format!("metadata `{key}`"))?;
        if metadata.get(&key).is_some() {
            let what = format!("metadata `{key}`");
            return Err(corrupt(&what, cursor.offset(), "occurs twice".to_owned()));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &Metadata, cursor: &Cursor<'_>) -> Checked<u64> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value
        .as_u64()
        .filter(|bytes| bytes.is_power_of_two())
        .ok_or_else(|| {
            let detail = format!("{value:?} is not a power of two");
            corrupt("metadata `general.alignment`", cursor.offset(), detail)
        })
}

/// Reads one entry; its offset is still relative to the start of the data.
fn read_tensor(cursor: &mut Cursor<'_>, index: usize) -> Checked<TensorInfo> {
    let name = cursor.string(&format!("name of tensor {index}"))?;
    let what = format!("directory entry of tensor {name}");
    let dims = read_dims(cursor, &what)?;
    let type_id = cursor.u32(&what)?;
    let Some(kind) = GgmlType::from_id(type_id) else {
        return Err(Box::new(Problem::TensorType {
            tensor: name,
            kind: GgmlType::unreadable_name(type_id),
        }));
    };
    let offset = cursor.u64(&what)?;
    let byte_len = stored_bytes(&dims, kind).ok_or_else(|| {
        let detail = format!("dimensions {dims:?} are impossible for type {kind}");
        corrupt(&what, cursor.offset(), detail)
    })?;
    Ok(TensorInfo {
        name,
        dims,
        kind,
        offset,
        byte_len,
    })
}

fn read_dims(cursor: &mut Cursor<'_>, what: &str) -> Checked<Vec<u64>> {
    let count = cursor.u32(what)?;
    if count > MAX_DIMS {
        let detail = format!("{count} dimensions, at most {MAX_DIMS} exist");
        return Err(corrupt(what, cursor.offset(), detail));
    }
    let innermost_first = (0..count).map(|_| cursor.u64(what));
    let mut dims = innermost_first.collect::<Checked<Vec<_>>>()?;
    dims.reverse();
    Ok(dims)
}

/// Bytes of a tensor; rows are stored in whole blocks.
fn stored_bytes(dims: &[u64], kind: GgmlType) -> Option<u64> {
    let row_elements = dims.last().copied().unwrap_or(1);
    let mut rows = dims.iter().rev().skip(1);
    let rows = rows.try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
    rows.checked_mul(row_elements)?;
    kind.byte_len(row_elements)?.checked_mul(rows)
}

/// Makes offsets absolute and checks that each tensor lies inside the file.
fn place_tensors(tensors: &mut [TensorInfo], cursor: &Cursor<'_>, alignment: u64) -> Checked<()> {
    let data_start = cursor.offset().next_multiple_of(alignment);
    for tensor in tensors {
        let what = format!("tensor {}", tensor.name);
        if !tensor.offset.is_multiple_of(alignment) {
            let detail = format!(
                "data offset {} is not aligned to {alignment}",
                tensor.offset
            );
            return Err(corrupt(&what, cursor.offset(), detail));
        }
        tensor.offset = tensor.offset.saturating_add(data_start);
        let end = tensor.offset.saturating_add(tensor.byte_len);
        if end > cursor.file_len() {
            return Err(Box::new(Problem::Truncated {
                what,
                offset: tensor.offset,
                needed: tensor.byte_len,
                left: cursor.file_len().saturating_sub(tensor.offset),
            }));
        }
    }
    Ok(())
}

fn index_by_name(tensors: &[TensorInfo]) -> Checked<HashMap<String, usize>> {
    let mut by_name = HashMap::with_capacity(tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        if by_name.insert(tensor.name.clone(), index).is_some() {
            let what = format!("tensor {}", tensor.name);
            return Err(corrupt(
                &what,
                tensor.offset,
                "occurs twice in the directory".to_owned(),
            ));
        }
    }
    Ok(by_name)
}
