//! Rows of ggml's Q8_0 times a vector in 8 bits, with AVX2: 32 products an instruction, and the scales of a block once.
#![allow(
    unsafe_code,
    reason = "vector loads; each is of an array of its length, and the processor is asked for the instructions first"
)]

use std::arch::x86_64::*;

use candle_core::quantized::k_quants::BlockQ8_0;

/// Elements of a block.
const BLOCK: usize = 32;
/// The largest code.
const LARGEST: f32 = 127.0;

/// A block of a row, as a file has it.
#[repr(C)]
pub(super) struct Q8Block {
    scale: u16,
    codes: [i8; BLOCK],
}

const _: () = assert!(size_of::<Q8Block>() == size_of::<BlockQ8_0>());
const _: () = assert!(align_of::<Q8Block>() <= align_of::<BlockQ8_0>());

/// A block of the vector: codes, their magnitudes, and the scale in full precision.
struct XBlock {
    codes: [i8; BLOCK],
    magnitudes: [u8; BLOCK],
    scale: f32,
}

/// A vector rounded to 8 bits in blocks.
pub(super) struct Q8Vector(Vec<XBlock>);

impl Q8Vector {
    /// `x_i`, in whole blocks; `None` on a processor without the instructions.
    pub(super) fn new(x_i: &[f32]) -> Option<Self> {
        let supported = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let (blocks, rest) = x_i.as_chunks::<BLOCK>();
        (supported && rest.is_empty()).then(|| Self(blocks.iter().map(rounded).collect()))
    }

    /// A row's product with the vector.
    ///
    /// # Panics
    /// If the row is shorter.
    pub(super) fn dot(&self, row: &[Q8Block]) -> f32 {
        assert_eq!(row.len(), self.0.len(), "blocks of a row and of the vector");
        // SAFETY: `new` asked the processor for the instructions.
        unsafe { dot(row, &self.0) }
    }
}

/// The blocks as this file reads them.
pub(super) fn as_blocks(blocks: &[BlockQ8_0]) -> &[Q8Block] {
    // SAFETY: both are `repr(C)` of a half's bits and 32 codes, of the same size, as is asserted above.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), blocks.len()) }
}

fn rounded(x: &[f32; BLOCK]) -> XBlock {
    let most = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let inverse = if most > 0.0 { LARGEST / most } else { 0.0 };
    let codes = x.map(|x| (x * inverse).round() as i8);
    XBlock {
        codes,
        magnitudes: codes.map(i8::unsigned_abs),
        scale: most / LARGEST,
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot(row: &[Q8Block], x: &[XBlock]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 2];
    let ones = _mm256_set1_epi16(1);
    for ((w, x), index) in row.iter().zip(x).zip(0..) {
        // Signed times signed: |x| times w with the sign of x. Two products fit 16 bits: 2 · 127 · 128.
        let signed = _mm256_sign_epi8(load(&w.codes), load(&x.codes));
        let pairs = _mm256_maddubs_epi16(load(&x.magnitudes), signed);
        let quads = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
        let scale = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(w.scale)));
        let scale = _mm256_broadcastss_ps(_mm_mul_ss(scale, _mm_set_ss(x.scale)));
        let sum = &mut sums[index % 2];
        *sum = _mm256_fmadd_ps(quads, scale, *sum);
    }
    let mut lanes = [0.0_f32; 8];
    // SAFETY: a store of 32 bytes to an array of 32 bytes.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(sums[0], sums[1])) };
    lanes.iter().sum()
}

#[target_feature(enable = "avx")]
fn load<T>(bytes: &[T; BLOCK]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: a load of 32 bytes from an array of 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
