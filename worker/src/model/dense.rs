//! A frozen matrix that is not quantized, in the number format it was stored in.

use std::ops::Range;

use half::slice::HalfFloatSliceExt as _;

/// A matrix in 16 or 32 bits. Shapes: `rows` outputs (or vocabulary entries) × `cols` inputs, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseMatrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `rows · cols` numbers.
    pub values: DenseValues,
}

/// The numbers of a [`DenseMatrix`].
#[derive(Debug, Clone, PartialEq)]
pub enum DenseValues {
    /// Single precision.
    F32(Vec<f32>),
    /// IEEE half precision.
    F16(Vec<half::f16>),
    /// bfloat16.
    Bf16(Vec<half::bf16>),
}

impl DenseValues {
    /// How many numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl DenseMatrix {
    /// Writes rows as f32, `=`.
    ///
    /// # Panics
    /// If `out` does not hold exactly the rows asked for.
    pub fn rows_into(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            rows.len() * self.cols,
            "rows {rows:?} of {} columns",
            self.cols
        );
        let span = rows.start * self.cols..rows.end * self.cols;
        match &self.values {
            DenseValues::F32(values) => out.copy_from_slice(&values[span]),
            // In vectors where the processor has the instruction.
            DenseValues::F16(values) => values[span].convert_to_f32_slice(out),
            DenseValues::Bf16(values) => widen(&values[span], out, |v| {
                f32::from_bits(u32::from(v.to_bits()) << 16)
            }),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.values {
            DenseValues::F32(values) => 4 * values.len(),
            DenseValues::F16(_) | DenseValues::Bf16(_) => 2 * self.values.len(),
        }
    }
}

fn widen<T: Copy>(values: &[T], out: &mut [f32], to_f32: impl Fn(T) -> f32) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = to_f32(value);
    }
}
