//! Functions of f32 that the compiler can vectorise: no branches, no calls, one order of summation.

/// Partial sums or maxima kept side by side. Fixed, so that results do not depend on the machine's vector width.
const LANES: usize = 16;

/// eˣ, within 2 units in the last place for −87 ≤ x ≤ 88; 0 below, e⁸⁸ above; NaN stays NaN.
///
/// Source: Cephes `expf`: x = n·ln 2 + r, a polynomial in r, and n put into the exponent.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which the low bits of the sum then hold.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let high = if x > 88.0 { 88.0 } else { x };
    let shifted = high * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = high - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let e_r = p * r * r + r + 1.0;
    let two_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000));
    if x < -87.0 { 0.0 } else { e_r * two_n }
}

/// Σ aᵢ·bᵢ.
#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The largest element; −∞ of none. NaN is passed over.
#[inline]
pub(super) fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], chunk[i]);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, larger)
}

/// Replaces each element by e^(element − shift) and returns their sum.
#[inline]
pub(super) fn exp_minus(values: &mut [f32], shift: f32) -> f32 {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - shift);
            lanes[i] += chunk[i];
        }
    }
    let mut sum = lanes.iter().sum::<f32>();
    for value in rest {
        *value = exp(*value - shift);
        sum += *value;
    }
    sum
}

/// `y += alpha · x`.
#[inline]
pub(super) fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in 0..=1_750_000 {
            let x = -87.0 + i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * exact;
            let error = (f64::from(exp(x)) - exact).abs();
            // Near the smallest normal number a unit is f32::MIN_POSITIVE · EPSILON.
            assert!(
                error <= 2.0 * ulp.max(1.4e-45),
                "exp({x}) is {error} off, {} ulp",
                error / ulp
            );
        }
    }

    #[test]
    fn exp_outside_its_range_saturates_and_nan_stays() {
        assert_eq!(
            (exp(-88.0), exp(f32::NEG_INFINITY), exp(0.0)),
            (0.0, 0.0, 1.0)
        );
        assert!(exp(f32::INFINITY) > 1e38 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_agree_with_plain_loops() {
        for len in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
            let plain: f32 = a.iter().map(|v| v * v).sum();
            assert!((dot(&a, &a) - plain).abs() < 1e-4);
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut shifted = a.clone();
            let sum = exp_minus(&mut shifted, 0.5);
            assert!((sum - a.iter().map(|v| (v - 0.5).exp()).sum::<f32>()).abs() < 1e-4);
        }
    }
}
