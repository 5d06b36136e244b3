//! Sub-blocks of a super-block side by side, and rounding as ggml does it.

/// Numbers of a super-block.
pub(super) const SUPER: usize = 256;
/// Adding and subtracting it rounds a number below 2^22 to the nearest integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// One number for each of `N` sub-blocks.
pub(super) type Lanes<const N: usize> = [f32; N];

/// The super-block with the sub-blocks as columns: `LEN` rows of `N`.
pub(super) fn side_by_side<const N: usize, const LEN: usize>(
    values: &[f32; SUPER],
) -> [Lanes<N>; LEN] {
    std::array::from_fn(|i| std::array::from_fn(|lane| values[lane * LEN + i]))
}

/// The nearest integer, ties to even.
#[inline]
pub(super) fn rounded(value: f32) -> f32 {
    (value + ROUNDER) - ROUNDER
}

/// The nearest integer as ggml takes it from the bits of the sum.
#[inline]
pub(super) fn nearest(value: f32) -> i32 {
    ((value + ROUNDER).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// `value` between `least` and `most`, both integers.
#[inline]
pub(super) fn limited(value: f32, least: f32, most: f32) -> f32 {
    // In this form they are one instruction each; f32::clamp looks at NaN too.
    let value = if value < most { value } else { most };
    if value > least { value } else { least }
}
