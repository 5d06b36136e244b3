//! Gradients as integers: `round(g·2^40)`, halves to even.
//!
//! Integer addition is associative, so neither the grouping of micro-batches, nor their order, nor the number of
//! workers can change a bit of the sum. One unit is 2^-40, so a gradient from 2^-17 up keeps its whole f32 mantissa and
//! a smaller one is off by at most 2^-41.
//!
//! **Range.** A term is below 2^51 in magnitude ([`LIMIT`] in f32) and a step has at most [`MAX_TERMS`] of them, so a
//! sum stays below 2^63 and no addition can wrap, whatever the order. What is beyond the limit, infinite or not a
//! number contributes 0 and is counted in [`Flags`], which travel in the sum's reserved elements.

pub use weft_common::sum_digest::Flags;

/// Bits behind the binary point.
pub const FRACTION_BITS: u32 = 40;

/// Gradients of this magnitude and above do not fit: 2^11.
pub const LIMIT: f32 = 2048.0;

/// How many terms an element may sum: 2^12 − 1 terms below 2^51 stay below 2^63.
pub const MAX_TERMS: u32 = 4095;

const SCALE: f64 = (1_u64 << FRACTION_BITS) as f64;

/// 1.5·2^52: added to a number below 2^51 in magnitude it leaves the number, rounded half to even, in the low mantissa
/// bits. Unlike a conversion instruction this vectorizes on every target.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Converts a block; `fixed[i] = round(grads[i]·2^40)`, or 0 where that does not fit.
///
/// # Panics
/// If the lengths differ.
pub fn to_fixed(grads: &[f32], fixed: &mut [i64]) -> Flags {
    assert_eq!(grads.len(), fixed.len(), "one integer for each gradient");
    let mut fits = true;
    for (fixed, &grad) in fixed.iter_mut().zip(grads) {
        let within = grad.abs() < LIMIT;
        fits &= within;
        let kept = if within { grad } else { 0.0 };
        let rounded = f64::from(kept) * SCALE + ROUNDER;
        *fixed = rounded
            .to_bits()
            .wrapping_sub(ROUNDER.to_bits())
            .cast_signed();
    }
    if fits { Flags::default() } else { count(grads) }
}

/// Converts a sum back: rounded to f64, then to f32. The same integer gives the same bits.
#[must_use]
pub fn to_float(fixed: i64) -> f32 {
    (fixed as f64 * (1.0 / SCALE)) as f32
}

fn count(grads: &[f32]) -> Flags {
    let of = |test: fn(&f32) -> bool| grads.iter().filter(|&grad| test(grad)).count() as u64;
    Flags {
        non_finite: of(|grad| !grad.is_finite()),
        overflow: of(|grad| grad.is_finite() && grad.abs() >= LIMIT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixed(grad: f32) -> (i64, Flags) {
        let mut out = [0];
        let flags = to_fixed(&[grad], &mut out);
        (out[0], flags)
    }

    fn unit() -> f32 {
        (1.0 / SCALE) as f32
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let cases = [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (-2.5, -2),
            (0.500_001, 1),
            (-0.75, -1),
        ];
        for (units, expected) in cases {
            assert_eq!(fixed(units * unit()).0, expected, "{units} units");
        }
    }

    #[test]
    fn the_largest_terms_fill_the_range_without_wrapping() {
        let largest = f32::from_bits(LIMIT.to_bits() - 1);
        for grad in [largest, -largest] {
            let (value, flags) = fixed(grad);
            assert_eq!((value as f64 / SCALE) as f32, grad);
            assert_eq!(flags, Flags::default());
            assert!(value.checked_mul(i64::from(MAX_TERMS)).is_some());
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_contributes_nothing() {
        let grads = [
            f32::NAN,
            1.0,
            f32::INFINITY,
            LIMIT,
            -LIMIT,
            f32::MAX,
            f32::NEG_INFINITY,
        ];
        let mut out = [7; 7];
        let flags = to_fixed(&grads, &mut out);
        assert_eq!(
            flags,
            Flags {
                non_finite: 3,
                overflow: 3
            }
        );
        assert_eq!(out, [0, 1 << FRACTION_BITS, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn conversion_is_the_nearest_integer_and_back_the_same_number(grad in -2047.0_f32..2047.0, shift in 0_i32..60) {
            let grad = grad * 2_f32.powi(-shift);
            let (value, flags) = fixed(grad);
            prop_assert_eq!(flags, Flags::default());
            prop_assert_eq!(value as f64, (f64::from(grad) * SCALE).round_ties_even());
            if grad.abs() >= 2_f32.powi(-17) {
                prop_assert_eq!(to_float(value), grad);
            }
        }
    }
}
