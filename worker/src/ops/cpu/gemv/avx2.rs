//! Rows times a vector with AVX2, FMA and F16C, which x86 processors have had since 2013.
#![allow(
    unsafe_code,
    reason = "vector loads; each is checked against its slice, and the processor is asked for the instructions first"
)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::model::{DenseMatrix, DenseValues};
use crate::quant::nf4::{BLOCK, TABLE};
use crate::quant::{Nf4Matrix, StoredDtype};

/// Elements of a vector.
const LANES: usize = 8;

fn is_supported() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// An NF4 matrix whose rows are whole blocks, on a processor that has the instructions.
pub(super) struct Nf4<'a> {
    matrix: &'a Nf4Matrix,
}

impl<'a> Nf4<'a> {
    pub(super) fn of(matrix: &'a Nf4Matrix) -> Option<Self> {
        let fits = matrix.cols().is_multiple_of(BLOCK);
        (fits && is_supported()).then_some(Self { matrix })
    }

    /// Row `row` times `x_i`.
    pub(super) fn dot(&self, row: usize, x_i: &[f32]) -> f32 {
        // SAFETY: `of` asked the processor for the instructions.
        unsafe { nf4_dot(self.matrix, row, x_i) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn nf4_dot(matrix: &Nf4Matrix, row: usize, x_i: &[f32]) -> f32 {
    let blocks = x_i.len() / BLOCK;
    let first = row * blocks;
    let codes = &matrix.packed()[first * BLOCK / 2..][..blocks * BLOCK / 2];
    let [low, high] = tables();
    let mut sums = [_mm256_setzero_ps(); 4];
    let blocks_of_x = x_i.as_chunks::<BLOCK>().0;
    for (block, (codes, x)) in
        (first..).zip(codes.as_chunks::<{ BLOCK / 2 }>().0.iter().zip(blocks_of_x))
    {
        let magnitude = _mm256_set1_ps(matrix.absmax().get(block));
        let scaled = |table| rounded(_mm256_mul_ps(table, magnitude), matrix.dtype());
        let table = [scaled(low), scaled(high)];
        let words = codes.as_chunks::<4>().0;
        for ((word, x), index) in words.iter().zip(x.as_chunks::<LANES>().0).zip(0..) {
            let weights = look_up(table, i32::from_le_bytes(*word));
            let sum = &mut sums[index % 4];
            *sum = _mm256_fmadd_ps(weights, load(x), *sum);
        }
    }
    total(sums)
}

/// The sixteen values in two vectors.
#[target_feature(enable = "avx2")]
fn tables() -> [__m256; 2] {
    let [low, high] = TABLE.as_chunks::<LANES>().0 else {
        unreachable!("sixteen values are two vectors");
    };
    [load(low), load(high)]
}

/// What dequantized weights are rounded to.
#[target_feature(enable = "avx2,f16c")]
fn rounded(values: __m256, dtype: StoredDtype) -> __m256 {
    match dtype {
        StoredDtype::F32 => values,
        StoredDtype::F16 => _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values)),
        StoredDtype::Bf16 => {
            // To the nearest, ties to even; weights are finite.
            let bits = _mm256_castps_si256(values);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let kept = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_add_epi32(bits, up), kept))
        }
    }
}

/// Eight values by the eight codes of a word, of which each byte has the first in its high half.
#[target_feature(enable = "avx2")]
fn look_up([low, high]: [__m256; 2], word: i32) -> __m256 {
    let shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
    let codes = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    // A permutation looks at the three low bits of a code; the fourth chooses between the tables.
    let fourth = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
    _mm256_blendv_ps(
        _mm256_permutevar8x32_ps(low, codes),
        _mm256_permutevar8x32_ps(high, codes),
        fourth,
    )
}

/// A 16-bit matrix whose rows are whole vectors, on a processor that has the instructions.
pub(super) struct Halves<'a> {
    matrix: &'a DenseMatrix,
}

impl<'a> Halves<'a> {
    pub(super) fn of(matrix: &'a DenseMatrix) -> Option<Self> {
        let fits = matrix.cols.is_multiple_of(LANES);
        (fits && is_supported()).then_some(Self { matrix })
    }

    /// Row `row` times `x_i`.
    pub(super) fn dot(&self, row: usize, x_i: &[f32]) -> f32 {
        let span = row * x_i.len()..(row + 1) * x_i.len();
        // SAFETY: `of` asked the processor for the instructions.
        unsafe {
            match &self.matrix.values {
                DenseValues::F16(values) => f16_dot(&values[span], x_i),
                DenseValues::Bf16(values) => bf16_dot(&values[span], x_i),
                DenseValues::F32(values) => super::math::dot(&values[span], x_i),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn f16_dot(row: &[f16], x_i: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let vectors = row.as_chunks::<LANES>().0.iter();
    for ((row, x), index) in vectors.zip(x_i.as_chunks::<LANES>().0).zip(0..) {
        // SAFETY: a load of 16 bytes from an array of 16 bytes.
        let bits = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
        let sum = &mut sums[index % 4];
        *sum = _mm256_fmadd_ps(_mm256_cvtph_ps(bits), load(x), *sum);
    }
    total(sums)
}

#[target_feature(enable = "avx2,fma")]
fn bf16_dot(row: &[bf16], x_i: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let vectors = row.as_chunks::<LANES>().0.iter();
    for ((row, x), index) in vectors.zip(x_i.as_chunks::<LANES>().0).zip(0..) {
        // SAFETY: a load of 16 bytes from an array of 16 bytes.
        let bits = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
        let wide = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits));
        let sum = &mut sums[index % 4];
        *sum = _mm256_fmadd_ps(_mm256_castsi256_ps(wide), load(x), *sum);
    }
    total(sums)
}

#[target_feature(enable = "avx")]
fn load(values: &[f32; LANES]) -> __m256 {
    // SAFETY: a load of 32 bytes from an array of 32 bytes.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// The sum of all lanes, in one order.
#[target_feature(enable = "avx")]
fn total([a, b, c, d]: [__m256; 4]) -> f32 {
    let sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    let mut lanes = [0.0; LANES];
    // SAFETY: a store of 32 bytes to an array of 32 bytes.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    lanes.iter().sum()
}
