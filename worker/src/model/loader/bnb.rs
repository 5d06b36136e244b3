//! A linear that bitsandbytes stored in 4 bits: several tensors beside each other → [`Nf4Matrix`], byte for byte.
//!
//! Whether a tensor is 4-bit is decided for each by the presence of its quantization state, so that checkpoints which
//! keep some linears in 16 bits load as they are.

use serde::Deserialize;

use super::error::LoadError;
use super::folder::{Folder, Located};
use crate::quant::nf4::{BLOCK, TABLE};
use crate::quant::{Absmax, Nf4Matrix, StoredDtype, dynamic_map};

/// Blocks that share one nested magnitude in [`Absmax::Double`].
const NESTED_BLOCK: usize = 256;
/// Follows the weight's name, and is followed by the quantization's.
const STATE: &str = ".quant_state.bitsandbytes__";

/// The JSON that bitsandbytes keeps beside a quantized weight.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

/// A quantized weight while it is read, for messages that name it.
struct Reader<'a> {
    folder: &'a Folder,
    name: &'a str,
    weight: &'a Located,
}

/// Whether a tensor of this name is the state of a quantized weight.
pub(super) fn is_state(name: &str) -> bool {
    name.contains(STATE)
}

/// The quantization state of weight `name`, if it is quantized by bitsandbytes.
pub(super) fn find_state(folder: &Folder, name: &str) -> Result<Option<State>, LoadError> {
    let Some(kind) = ["nf4", "fp4"]
        .into_iter()
        .find(|kind| folder.contains(&format!("{name}{STATE}{kind}")))
    else {
        return Ok(None);
    };
    let reader = Reader {
        folder,
        name,
        weight: folder.locate(name)?,
    };
    let bytes = folder.bytes(folder.locate(&format!("{name}{STATE}{kind}"))?)?;
    let state: State = serde_json::from_slice(&bytes)
        .map_err(|e| reader.damaged(format!("has an unreadable quantization state ({e})")))?;
    if state.quant_type == "nf4" {
        return Ok(Some(state));
    }
    Err(LoadError::UnsupportedType {
        path: folder.file_of(reader.weight).path().to_owned(),
        tensor: name.to_owned(),
        found: format!("bitsandbytes {}", state.quant_type),
        remedy: "take the 16-bit checkpoint or one quantized to nf4".to_owned(),
    })
}

/// Reads the quantized weight `name` of which `find_state` found the state.
pub(super) fn read(
    folder: &Folder,
    name: &str,
    state: &State,
    shape: &[usize],
) -> Result<Nf4Matrix, LoadError> {
    let weight = folder.locate(name)?;
    let reader = Reader {
        folder,
        name,
        weight,
    };
    if state.shape != shape {
        return Err(LoadError::Shape {
            path: folder.file_of(weight).path().to_owned(),
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            found: state.shape.clone(),
        });
    }
    let &[rows, cols] = shape else {
        return Err(reader.damaged(format!(
            "is quantized, but has shape {shape:?} and is no matrix"
        )));
    };
    reader.check_table()?;
    let dtype = reader.stored_dtype(&state.dtype)?;
    let absmax = reader.absmax(state, (rows * cols).div_ceil(BLOCK))?;
    // Whatever bnb_4bit_quant_storage was: the same bytes.
    let packed = folder.bytes(weight)?;
    Nf4Matrix::from_parts((rows, cols), packed, absmax, dtype)
        .map_err(|e| reader.damaged(e.to_string()))
}

impl Reader<'_> {
    fn absmax(&self, state: &State, blocks: usize) -> Result<Absmax, LoadError> {
        let merged = self.merged("blocksize", state.blocksize, BLOCK)?;
        let (Some(nested_blocksize), Some(offset)) = (state.nested_blocksize, state.nested_offset)
        else {
            return Ok(Absmax::Single(repeat(
                &self.floats("absmax")?,
                merged,
                blocks,
            )));
        };
        let nested_merged =
            merged * self.merged("nested_blocksize", nested_blocksize, NESTED_BLOCK)?;
        self.check_map()?;
        let codes = self.folder.bytes(self.part("absmax", "U8")?)?;
        Ok(Absmax::Double {
            codes: repeat(&codes, merged, blocks),
            nested: repeat(
                &self.floats("nested_absmax")?,
                nested_merged,
                blocks.div_ceil(NESTED_BLOCK),
            ),
            offset,
        })
    }

    /// How many of our blocks share one stored magnitude: a larger block is several equal ones.
    fn merged(&self, key: &str, stored: usize, ours: usize) -> Result<usize, LoadError> {
        if stored >= ours && stored.is_multiple_of(ours) {
            return Ok(stored / ours);
        }
        Err(LoadError::UnsupportedType {
            path: self.folder.file_of(self.weight).path().to_owned(),
            tensor: self.name.to_owned(),
            found: format!("nf4 with {key} {stored}"),
            remedy: format!(
                "take the 16-bit checkpoint or one quantized with a {key} that is a multiple of {ours}"
            ),
        })
    }

    fn check_table(&self) -> Result<(), LoadError> {
        if self.floats("quant_map")? == TABLE {
            return Ok(());
        }
        Err(self.damaged("has a quant_map that is not the NF4 table".to_owned()))
    }

    fn check_map(&self) -> Result<(), LoadError> {
        let stored = self.floats("nested_quant_map")?;
        let map = dynamic_map::signed();
        // torch has changed how it rounds linspace by one unit in the last place.
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 2.0 * f32::EPSILON * b.abs();
        if stored.len() == map.len() && stored.iter().zip(map).all(close) {
            return Ok(());
        }
        Err(self.damaged("has a nested_quant_map that is not the signed dynamic map".to_owned()))
    }

    fn stored_dtype(&self, name: &str) -> Result<StoredDtype, LoadError> {
        match name {
            "bfloat16" => Ok(StoredDtype::Bf16),
            "float16" => Ok(StoredDtype::F16),
            "float32" => Ok(StoredDtype::F32),
            other => Err(self.damaged(format!("was quantized from the unknown dtype {other}"))),
        }
    }

    fn part(&self, part: &str, dtype: &str) -> Result<&Located, LoadError> {
        let located = self.folder.locate(&format!("{}.{part}", self.name))?;
        if located.entry.dtype == dtype {
            return Ok(located);
        }
        Err(self.damaged(format!(
            "has its {part} in {}, expected {dtype}",
            located.entry.dtype
        )))
    }

    fn floats(&self, part: &str) -> Result<Vec<f32>, LoadError> {
        let bytes = self.folder.bytes(self.part(part, "F32")?)?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect())
    }

    fn damaged(&self, problem: String) -> LoadError {
        LoadError::damaged(
            self.folder.file_of(self.weight).path(),
            format!("quantized tensor `{}` {problem}", self.name),
        )
    }
}

/// Each value `times` over, cut at `len`: the last stored block may be a partial one.
fn repeat<T: Copy>(values: &[T], times: usize, len: usize) -> Vec<T> {
    if times == 1 {
        return values.to_vec();
    }
    let repeated = values
        .iter()
        .flat_map(|&value| std::iter::repeat_n(value, times));
    repeated.take(len).collect()
}
