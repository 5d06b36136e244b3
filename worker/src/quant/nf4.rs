//! A matrix in NF4: quantize, dequantize by rows.

use std::ops::Range;

use rayon::prelude::*;

use super::absmax::NESTED_BLOCK;
use super::{Absmax, Nf4Error};

/// Elements that share one magnitude.
pub const BLOCK: usize = 64;

/// The sixteen values, as fractions of the block's magnitude.
pub const TABLE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A value's code is the number of thresholds strictly below it.
pub(crate) const THRESHOLDS: [f32; 15] = [
    -0.848_096_4,
    -0.610_632_9,
    -0.459_995_27,
    -0.339_679_43,
    -0.234_607_4,
    -0.137_911_73,
    -0.045_525_018,
    0.039_790_15,
    0.120_255_25,
    0.203_521_25,
    0.292_013_77,
    0.389_312_54,
    0.501_663_42,
    0.642_786_9,
    0.861_478_4,
];

/// Number format of the matrix that was quantized. bitsandbytes rounds to it when it dequantizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoredDtype {
    /// f32: `table[code] · absmax` is used as it is.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// A frozen matrix in NF4. Shapes: `rows` outputs × `cols` inputs, flattened row by row, blocks of 64.
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4Matrix {
    rows: usize,
    cols: usize,
    packed: Vec<u8>,
    absmax: Absmax,
    dtype: StoredDtype,
}

impl Nf4Matrix {
    /// Quantizes an f32 matrix, with double quantization. The result does not depend on the number of threads.
    ///
    /// # Panics
    /// If `values` does not hold `rows · cols` numbers.
    #[must_use]
    pub fn quantize(rows: usize, cols: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), rows * cols, "an NF4 matrix of {rows}x{cols}");
        let (packed, magnitudes) = quantize_blocks(values);
        let absmax = Absmax::double(&magnitudes);
        Self {
            rows,
            cols,
            packed,
            absmax,
            dtype: StoredDtype::F32,
        }
    }

    /// Takes over the parts of a stored matrix.
    ///
    /// # Errors
    /// If an array's length does not match the shape.
    pub fn from_parts(
        (rows, cols): (usize, usize),
        packed: Vec<u8>,
        absmax: Absmax,
        dtype: StoredDtype,
    ) -> Result<Self, Nf4Error> {
        let elements = rows * cols;
        let expected = elements.div_ceil(2);
        if packed.len() != expected {
            let found = packed.len();
            return Err(Nf4Error::PackedBytes {
                rows,
                cols,
                expected,
                found,
            });
        }
        let blocks = elements.div_ceil(BLOCK);
        let lengths = match &absmax {
            Absmax::Single(values) => [("block magnitudes", blocks, values.len()), ("", 0, 0)],
            Absmax::Double { codes, nested, .. } => [
                ("block magnitudes", blocks, codes.len()),
                (
                    "nested magnitudes",
                    blocks.div_ceil(NESTED_BLOCK),
                    nested.len(),
                ),
            ],
        };
        for (what, expected, found) in lengths {
            if found != expected {
                return Err(Nf4Error::Magnitudes {
                    rows,
                    cols,
                    what,
                    expected,
                    found,
                });
            }
        }
        Ok(Self {
            rows,
            cols,
            packed,
            absmax,
            dtype,
        })
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The codes, two a byte, the even element in the high half.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The blocks' magnitudes.
    #[must_use]
    pub fn absmax(&self) -> &Absmax {
        &self.absmax
    }

    /// Number format that dequantized values are rounded to.
    #[must_use]
    pub fn dtype(&self) -> StoredDtype {
        self.dtype
    }

    /// The same codes, dequantized without rounding: `table[code] · absmax` in f32.
    #[must_use]
    pub fn with_dtype(mut self, dtype: StoredDtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packed.len() + self.absmax.bytes()
    }

    /// Bytes that a matrix with double quantization holds.
    #[must_use]
    pub fn bytes_for((rows, cols): (usize, usize)) -> usize {
        let blocks = (rows * cols).div_ceil(BLOCK);
        (rows * cols).div_ceil(2) + blocks + 4 * blocks.div_ceil(NESTED_BLOCK) + 4
    }

    /// Writes rows as f32, `=`.
    ///
    /// # Panics
    /// If `out` does not hold exactly the rows asked for.
    pub fn dequantize_rows_into(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            rows.len() * self.cols,
            "rows {rows:?} of {} columns",
            self.cols
        );
        let start = rows.start * self.cols;
        let mut done = 0;
        while done < out.len() {
            let element = start + done;
            let block = element / BLOCK;
            let until = ((block + 1) * BLOCK - start).min(out.len());
            self.dequantize_span(element, self.absmax.get(block), &mut out[done..until]);
            done = until;
        }
    }

    /// Elements `first..` of one block.
    fn dequantize_span(&self, first: usize, magnitude: f32, out: &mut [f32]) {
        let values = TABLE.map(|entry| entry * magnitude);
        let values = match self.dtype {
            StoredDtype::F32 => values,
            StoredDtype::Bf16 => values.map(|v| half::bf16::from_f32(v).to_f32()),
            StoredDtype::F16 => values.map(|v| half::f16::from_f32(v).to_f32()),
        };
        if first.is_multiple_of(2) && out.len().is_multiple_of(2) {
            let bytes = &self.packed[first / 2..(first + out.len()) / 2];
            for (pair, &byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                *pair = [
                    values[usize::from(byte >> 4)],
                    values[usize::from(byte & 15)],
                ];
            }
            return;
        }
        for (i, value) in out.iter_mut().enumerate() {
            *value = values[usize::from(self.code(first + i))];
        }
    }

    fn code(&self, element: usize) -> u8 {
        let byte = self.packed[element / 2];
        if element.is_multiple_of(2) {
            byte >> 4
        } else {
            byte & 15
        }
    }
}

/// Codes, two a byte, and magnitudes.
fn quantize_blocks(values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let mut packed = vec![0_u8; values.len().div_ceil(2)];
    let mut magnitudes = vec![0.0_f32; values.len().div_ceil(BLOCK)];
    quantize_blocks_into(values, &mut packed, &mut magnitudes);
    (packed, magnitudes)
}

/// Quantizes a part of a matrix that begins with a block: codes, two a byte, and magnitudes, both `=`.
///
/// # Panics
/// If `packed` or `magnitudes` does not have the length that `values` needs.
pub fn quantize_blocks_into(values: &[f32], packed: &mut [u8], magnitudes: &mut [f32]) {
    let (bytes, blocks) = (values.len().div_ceil(2), values.len().div_ceil(BLOCK));
    assert_eq!(
        (packed.len(), magnitudes.len()),
        (bytes, blocks),
        "lengths for {} values",
        values.len()
    );
    (values.par_chunks(BLOCK))
        .zip(packed.par_chunks_mut(BLOCK / 2))
        .zip(magnitudes.par_iter_mut())
        .for_each(|((block, bytes), magnitude)| {
            *magnitude = block.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
            // Infinite for a block of zeros: the products are not numbers then, and their code is 0.
            let inverse = 1.0 / *magnitude;
            for (byte, pair) in bytes.iter_mut().zip(block.chunks(2)) {
                let code = |v: f32| code_of(v * inverse);
                *byte = (code(pair[0]) << 4) | code(pair.get(1).copied().unwrap_or(0.0));
            }
        });
}

fn code_of(value: f32) -> u8 {
    THRESHOLDS
        .iter()
        .map(|&threshold| u8::from(value > threshold))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dequantized(matrix: &Nf4Matrix) -> Vec<f32> {
        let mut out = vec![f32::NAN; matrix.rows() * matrix.cols()];
        matrix.dequantize_rows_into(0..matrix.rows(), &mut out);
        out
    }

    #[test]
    fn known_vector_packs_to_its_known_bytes() {
        let values: Vec<f32> = (0..64)
            .map(|i| (((37 * i) % 64) as f32 - 32.0) / 32.0)
            .collect();
        let matrix = Nf4Matrix::quantize(1, 64, &values);
        let expected = "091c3e60a2d4f71b2e5f91c3e60a1d4e71b2d5f81c3e6091c3e70a2d4f81b2e5";
        assert_eq!(hex::encode(matrix.packed()), expected);
    }

    #[test]
    fn rows_of_any_width_dequantize_as_the_whole_does() {
        for cols in [1, 3, 24, 64, 96, 97] {
            let values: Vec<f32> = (0..11 * cols).map(|i| (i as f32 * 0.37).sin()).collect();
            let matrix = Nf4Matrix::quantize(11, cols, &values);
            let whole = dequantized(&matrix);
            for row in 0..11 {
                let mut out = vec![f32::NAN; cols];
                matrix.dequantize_rows_into(row..row + 1, &mut out);
                assert_eq!(
                    out,
                    whole[row * cols..(row + 1) * cols],
                    "row {row} of {cols}"
                );
            }
        }
    }

    #[test]
    fn values_are_rounded_to_the_stored_format() {
        let values: Vec<f32> = (0..128).map(|i| (i as f32 * 0.11).cos()).collect();
        let exact = Nf4Matrix::quantize(2, 64, &values);
        let rounded = exact.clone().with_dtype(StoredDtype::Bf16);
        let expected: Vec<f32> = dequantized(&exact)
            .iter()
            .map(|&v| half::bf16::from_f32(v).to_f32())
            .collect();
        assert_eq!(dequantized(&rounded), expected);
        assert_ne!(dequantized(&exact), expected);
    }

    #[test]
    fn the_bytes_of_a_shape_are_those_of_its_matrix() {
        for (rows, cols) in [(1, 1), (3, 43), (64, 257), (300, 64)] {
            let matrix = Nf4Matrix::quantize(rows, cols, &vec![0.5; rows * cols]);
            assert_eq!(Nf4Matrix::bytes_for((rows, cols)), matrix.bytes());
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let matrix = Nf4Matrix::quantize(1, 64, &[0.0; 64]);
        assert!(dequantized(&matrix).iter().all(|&v| v == 0.0));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let absmax = || Absmax::Single(vec![1.0; 2]);
        let short = Nf4Matrix::from_parts((2, 64), vec![0; 63], absmax(), StoredDtype::F32);
        assert!(matches!(
            short,
            Err(Nf4Error::PackedBytes {
                expected: 64,
                found: 63,
                ..
            })
        ));
        let few = Nf4Matrix::from_parts((3, 64), vec![0; 96], absmax(), StoredDtype::F32);
        assert!(matches!(
            few,
            Err(Nf4Error::Magnitudes {
                expected: 3,
                found: 2,
                ..
            })
        ));
    }

    proptest! {
        #[test]
        fn error_is_within_the_widest_gap(values in prop::collection::vec(-3.0_f32..3.0, 64..512)) {
            let matrix = Nf4Matrix::quantize(1, values.len(), &values);
            for (i, (restored, value)) in dequantized(&matrix).iter().zip(&values).enumerate() {
                let block = &values[i / 64 * 64..(i / 64 * 64 + 64).min(values.len())];
                let magnitude = block.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                // Half the gap between −1 and the next entry, and the error of the magnitude itself.
                let slack = (matrix.absmax().get(i / 64) - magnitude).abs();
                prop_assert!((restored - value).abs() <= 0.152 * magnitude + slack + 1e-6);
            }
        }
    }
}
