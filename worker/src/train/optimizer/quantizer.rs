//! Fast nearest-entry search in an 8-bit dynamic map.

use std::sync::OnceLock;

use crate::quant::dynamic_map;

/// Bits of an f32 that are not looked at by the start table: 5 of the mantissa's 23 bits remain.
const COARSE_SHIFT: u32 = 18;
const COARSE: usize = 1 << (32 - COARSE_SHIFT);

/// Finds codes: a table over the value's leading bits gives a code near the right one, and at most a few midpoints
/// between entries decide the rest.
pub(super) struct Quantizer {
    map: &'static [f32; 256],
    /// `midpoints[c]` lies between entries c and c + 1; the last is a sentinel.
    midpoints: [f32; 256],
    start: Box<[u8; COARSE]>,
}

impl Quantizer {
    /// Over the signed map, for first moments.
    pub(super) fn signed() -> &'static Self {
        static QUANTIZER: OnceLock<Quantizer> = OnceLock::new();
        QUANTIZER.get_or_init(|| Self::new(dynamic_map::signed()))
    }

    /// Over the unsigned map, for second moments.
    pub(super) fn unsigned() -> &'static Self {
        static QUANTIZER: OnceLock<Quantizer> = OnceLock::new();
        QUANTIZER.get_or_init(|| Self::new(dynamic_map::unsigned()))
    }

    fn new(map: &'static [f32; 256]) -> Self {
        let mut midpoints = [f32::INFINITY; 256];
        for (midpoint, pair) in midpoints.iter_mut().zip(map.windows(2)) {
            *midpoint = (pair[0] + pair[1]) * 0.5;
        }
        let mut start = Box::new([0; COARSE]);
        for (coarse, start) in (0_u32..).zip(start.iter_mut()) {
            let code = midpoints.partition_point(|&midpoint| midpoint < lowest(coarse));
            *start = u8::try_from(code).expect("the sentinel is below nothing");
        }
        Self {
            map,
            midpoints,
            start,
        }
    }

    /// The code of the entry nearest to `value`, which is not NaN; halfway between two the lower.
    #[inline]
    pub(super) fn code(&self, value: f32) -> u8 {
        let mut code = self.start[(value.to_bits() >> COARSE_SHIFT) as usize];
        while self.midpoints[usize::from(code)] < value {
            code += 1;
        }
        code
    }

    /// The code of `value`, moved to an entry of the same sign where the nearest has another: a moment must not change
    /// its direction.
    #[inline]
    pub(super) fn code_keeping_sign(&self, value: f32) -> u8 {
        let code = self.code(value);
        if self.entry(code).is_sign_negative() == value.is_sign_negative() {
            code
        } else if value > 0.0 {
            code + 1
        } else {
            code - 1
        }
    }

    /// The entry of a code.
    #[inline]
    pub(super) fn entry(&self, code: u8) -> f32 {
        self.map[usize::from(code)]
    }

    /// The code of 0.
    pub(super) fn zero(&self) -> u8 {
        self.code(0.0)
    }
}

/// The lowest number with these leading bits; the lowest of all for what is not a number.
fn lowest(coarse: u32) -> f32 {
    let bits = coarse << COARSE_SHIFT;
    let negative = bits >> 31 == 1;
    let lowest = f32::from_bits(if negative {
        bits | ((1 << COARSE_SHIFT) - 1)
    } else {
        bits
    });
    if lowest.is_nan() {
        f32::NEG_INFINITY
    } else {
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest_by_search(map: &[f32; 256], value: f32) -> usize {
        let midpoints = map.windows(2).map(|pair| (pair[0] + pair[1]) * 0.5);
        midpoints.filter(|&midpoint| midpoint < value).count()
    }

    #[test]
    fn codes_equal_an_exhaustive_search() {
        for (quantizer, map) in [
            (Quantizer::signed(), dynamic_map::signed()),
            (Quantizer::unsigned(), dynamic_map::unsigned()),
        ] {
            let steps = (0..40_000).map(|i| i as f32 / 20_000.0 - 1.0);
            let small = (0..2_000).flat_map(|i| [1.0, -1.0].map(|sign| sign * 0.99_f32.powi(i)));
            let exact = map
                .iter()
                .copied()
                .chain(map.windows(2).map(|pair| (pair[0] + pair[1]) * 0.5));
            for value in
                steps
                    .chain(small)
                    .chain(exact)
                    .chain([0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45])
            {
                assert_eq!(
                    usize::from(quantizer.code(value)),
                    nearest_by_search(map, value),
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn a_tiny_moment_keeps_its_sign() {
        let quantizer = Quantizer::signed();
        assert_eq!(quantizer.entry(quantizer.zero()), 0.0);
        assert!(quantizer.entry(quantizer.code_keeping_sign(-1e-9)) < 0.0);
        assert_eq!(quantizer.entry(quantizer.code_keeping_sign(1e-9)), 0.0);
        assert_eq!(quantizer.code_keeping_sign(-1.0), 0);
        assert_eq!(quantizer.code_keeping_sign(1.0), 255);
    }
}
