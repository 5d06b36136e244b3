//! A linear as bitsandbytes stores it in 4 bits: six tensors beside each other.

use std::sync::Mutex;

use super::shards::{Entry, ShardDtype, Writer};
use crate::export::weights::MergedTensor;
use crate::export::{ExportError, HalfType};
use crate::quant::nf4::{BLOCK, TABLE, quantize_blocks_into};
use crate::quant::{Absmax, dynamic_map};

/// Blocks that share one nested magnitude.
const NESTED_BLOCK: usize = 256;
/// The state's JSON is filled up with spaces, because its length is promised before its numbers are known.
const STATE_BYTES: usize = 256;

/// The tensors' names.
pub(super) struct Nf4Names {
    packed: String,
    absmax: String,
    map: String,
    nested_absmax: String,
    nested_map: String,
    state: String,
}

impl Nf4Names {
    pub(super) fn of(weight: &str) -> Self {
        let part = |part: &str| format!("{weight}.{part}");
        Self {
            packed: weight.to_owned(),
            absmax: part("absmax"),
            map: part("quant_map"),
            nested_absmax: part("nested_absmax"),
            nested_map: part("nested_quant_map"),
            state: part("quant_state.bitsandbytes__nf4"),
        }
    }

    pub(super) fn entries(self, (rows, cols): (usize, usize)) -> Vec<Entry> {
        let blocks = (rows * cols).div_ceil(BLOCK);
        let entry = |name, dtype, shape| Entry { name, dtype, shape };
        vec![
            entry(
                self.packed,
                ShardDtype::U8,
                vec![(rows * cols).div_ceil(2), 1],
            ),
            entry(self.absmax, ShardDtype::U8, vec![blocks]),
            entry(self.map, ShardDtype::F32, vec![TABLE.len()]),
            entry(
                self.nested_absmax,
                ShardDtype::F32,
                vec![blocks.div_ceil(NESTED_BLOCK)],
            ),
            entry(
                self.nested_map,
                ShardDtype::F32,
                vec![dynamic_map::signed().len()],
            ),
            entry(self.state, ShardDtype::U8, vec![STATE_BYTES]),
        ]
    }
}

/// Quantizes a linear, rounded to 16 bits as a merged model would hold it, and writes it.
pub(super) fn write(
    tensor: &MergedTensor<'_>,
    half: HalfType,
    writer: &Writer<'_>,
) -> Result<(), ExportError> {
    let (rows, cols) = tensor.size();
    let names = Nf4Names::of(tensor.name());
    let magnitudes = Mutex::new(vec![0.0; (rows * cols).div_ceil(BLOCK)]);
    // Pieces begin with a block.
    let aligned = BLOCK / (1 << cols.trailing_zeros().min(BLOCK.trailing_zeros()));
    tensor.for_each_piece(aligned, |first, values| {
        half.check(tensor, values)?;
        values
            .iter_mut()
            .for_each(|value| *value = half.rounded(*value));
        let mut packed = vec![0; values.len().div_ceil(2)];
        let mut largest = vec![0.0; values.len().div_ceil(BLOCK)];
        quantize_blocks_into(values, &mut packed, &mut largest);
        let start = first * cols;
        let mut magnitudes = magnitudes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        magnitudes[start / BLOCK..][..largest.len()].copy_from_slice(&largest);
        drop(magnitudes);
        Ok(writer.write(&names.packed, start / 2, &packed)?)
    })?;
    let magnitudes = magnitudes
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let Absmax::Double {
        codes,
        nested,
        offset,
    } = Absmax::double(&magnitudes)
    else {
        unreachable!("double quantization was asked for");
    };
    writer.write(&names.absmax, 0, &codes)?;
    writer.write(&names.map, 0, bytemuck::cast_slice(&TABLE))?;
    writer.write(&names.nested_absmax, 0, bytemuck::cast_slice(&nested))?;
    writer.write(
        &names.nested_map,
        0,
        bytemuck::cast_slice(dynamic_map::signed()),
    )?;
    let state = state((rows, cols), half, offset);
    Ok(writer.write(&names.state, 0, state.as_bytes())?)
}

/// The JSON as Python writes it.
fn state((rows, cols): (usize, usize), half: HalfType, offset: f32) -> String {
    let text = format!(
        "{{\"quant_type\": \"nf4\", \"blocksize\": {BLOCK}, \"dtype\": \"{}\", \"shape\": [{rows}, {cols}], \
         \"nested_blocksize\": {NESTED_BLOCK}, \"nested_dtype\": \"float32\", \"nested_offset\": {:?}}}",
        half.torch(),
        f64::from(offset)
    );
    format!("{text:STATE_BYTES$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_any_matrix_has_the_promised_length() {
        for (size, offset) in [((1, 1), 0.0), ((9_999_999, 9_999_999), -1.234_567_9e-38)] {
            let text = state(size, HalfType::Bf16, offset);
            assert_eq!(text.len(), STATE_BYTES);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["nested_offset"].as_f64(), Some(f64::from(offset)));
        }
    }
}
