//! Floats to the blocks of a GGUF file, bit for bit as ggml's reference quantizers make them.
//!
//! candle has quantizers of the same names, but its K-quants search scales as ggml did in its first version, which
//! leaves a larger error. These search as ggml does now, and all sub-blocks of a super-block at once, one a lane, so
//! that the compiler makes vectors of what ggml computes number by number: every lane adds in ggml's order. Source:
//! ggml `ggml-quants.c`, the functions `quantize_row_*_ref`.

mod affine;
mod lanes;
mod simple;
mod symmetric;

use half::{bf16, f16};
use weft_common::gguf::GgmlType;

/// How a tensor is stored in a file that weft writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 8 bits, a scale every 32.
    Q8_0,
    /// 5 bits, a scale every 32.
    Q5_0,
    /// 5 bits, scale and minimum every 32.
    Q5_1,
    /// 4 bits, super-blocks of 256.
    Q4K,
    /// 5 bits, super-blocks of 256.
    Q5K,
    /// 6 bits, super-blocks of 256.
    Q6K,
}

impl TensorType {
    /// The same in the container's terms.
    #[must_use]
    pub fn ggml(self) -> GgmlType {
        match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::BF16,
            Self::Q8_0 => GgmlType::Q8_0,
            Self::Q5_0 => GgmlType::Q5_0,
            Self::Q5_1 => GgmlType::Q5_1,
            Self::Q4K => GgmlType::Q4K,
            Self::Q5K => GgmlType::Q5K,
            Self::Q6K => GgmlType::Q6K,
        }
    }

    /// Numbers that are stored together: columns must be a multiple of it.
    #[must_use]
    pub fn block(self) -> usize {
        self.ggml().block_elements() as usize
    }

    /// Bytes of `elements` numbers that fill whole blocks.
    #[must_use]
    pub fn bytes(self, elements: usize) -> usize {
        elements / self.block() * self.ggml().block_bytes() as usize
    }

    /// Stores `values`, which fill whole blocks, `=`.
    ///
    /// # Panics
    /// If `out` is not exactly as long as [`Self::bytes`] says.
    pub fn encode(self, values: &[f32], out: &mut [u8]) {
        let expected = self.bytes(values.len());
        assert_eq!(out.len(), expected, "{} values as {self:?}", values.len());
        match self {
            Self::F32 => words(values, out, f32::to_le_bytes),
            Self::F16 => words(values, out, |value| f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => words(values, out, |value| bf16::from_f32(value).to_le_bytes()),
            Self::Q8_0 => blocks(values, out, simple::q8_0),
            Self::Q5_0 => blocks(values, out, simple::q5_0),
            Self::Q5_1 => blocks(values, out, simple::q5_1),
            Self::Q4K => blocks(values, out, affine::q4_k),
            Self::Q5K => blocks(values, out, affine::q5_k),
            Self::Q6K => blocks(values, out, symmetric::q6_k),
        }
    }
}

fn words<const N: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (out, &value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *out = bytes(value);
    }
}

fn blocks<const N: usize, const BYTES: usize>(
    values: &[f32],
    out: &mut [u8],
    block: impl Fn(&[f32; N], &mut [u8; BYTES]),
) {
    let (values, out) = (values.as_chunks::<N>().0, out.as_chunks_mut::<BYTES>().0);
    for (values, out) in values.iter().zip(out) {
        block(values, out);
    }
}

#[cfg(test)]
mod tests;
