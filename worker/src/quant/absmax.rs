//! The magnitudes of NF4 blocks: plain, or quantized once more.

use rayon::prelude::*;

use super::dynamic_map;

/// Blocks that share one nested magnitude.
pub(super) const NESTED_BLOCK: usize = 256;

/// The largest magnitude of each block of 64.
#[derive(Debug, Clone, PartialEq)]
pub enum Absmax {
    /// One f32 a block.
    Single(Vec<f32>),
    /// Double quantization: `signed_map[codes[b]] · nested[b / 256] + offset`.
    Double {
        /// One byte a block.
        codes: Vec<u8>,
        /// One f32 every 256 blocks.
        nested: Vec<f32>,
        /// The mean of all magnitudes.
        offset: f32,
    },
}

impl Absmax {
    /// Quantizes magnitudes in groups of 256 after taking their mean off. Multiplies by the reciprocal, as
    /// bitsandbytes does on a GPU; where all deviations are 0 that is not a number, and the code is 0.
    #[must_use]
    pub fn double(magnitudes: &[f32]) -> Self {
        let sum: f64 = magnitudes.iter().copied().map(f64::from).sum();
        let offset = (sum / magnitudes.len().max(1) as f64) as f32;
        let mut codes = vec![0; magnitudes.len()];
        let mut nested = vec![0.0; magnitudes.len().div_ceil(NESTED_BLOCK)];
        (magnitudes.par_chunks(NESTED_BLOCK))
            .zip(codes.par_chunks_mut(NESTED_BLOCK))
            .zip(nested.par_iter_mut())
            .for_each(|((group, codes), nested)| {
                let largest = group
                    .iter()
                    .fold(0.0_f32, |most, m| most.max((m - offset).abs()));
                *nested = largest;
                let inverse = 1.0 / largest;
                for (code, m) in codes.iter_mut().zip(group) {
                    let deviation = (m - offset) * inverse;
                    *code = dynamic_map::nearest(dynamic_map::signed(), deviation);
                }
            });
        Self::Double {
            codes,
            nested,
            offset,
        }
    }

    /// The magnitude of block `block`.
    #[must_use]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Single(magnitudes) => magnitudes[block],
            Self::Double {
                codes,
                nested,
                offset,
            } => {
                dynamic_map::signed()[usize::from(codes[block])] * nested[block / NESTED_BLOCK]
                    + offset
            }
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Single(magnitudes) => 4 * magnitudes.len(),
            Self::Double { codes, nested, .. } => codes.len() + 4 * nested.len() + 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_come_back_within_half_a_step() {
        let magnitudes: Vec<f32> = (0..1000)
            .map(|i| 0.02 + (i as f32 * 0.7).sin() * 0.01)
            .collect();
        let absmax = Absmax::double(&magnitudes);
        for (block, &expected) in magnitudes.iter().enumerate() {
            // The widest gap of the signed map is 0.0141 of the group's largest deviation, here at most 0.0101.
            assert!(
                (absmax.get(block) - expected).abs() <= 0.5 * 0.0142 * 0.0102,
                "block {block}"
            );
        }
    }
}
