//! Q4_K and Q5_K: eight sub-blocks of 32, each `scale · code − minimum`, scales and minima of 6 bits.

use half::f16;

use super::lanes::{Lanes, SUPER, limited, nearest, rounded, side_by_side};

const LANES: usize = 8;
const LEN: usize = 32;
/// Bytes of two halves and sixteen numbers of 6 bits.
const FRONT: usize = 4 + 12;

/// What is searched: each try takes another inverse scale, `(first + 0.1 · try + top) / range`.
struct Search {
    /// The largest code.
    top: f32,
    first: f32,
    tries: u8,
}

/// The sub-blocks' parameters, and how the codes of the search follow from them.
struct Fit {
    scale: Lanes<LANES>,
    /// Subtracted; not negative.
    minimum: Lanes<LANES>,
    inverse: Lanes<LANES>,
    least: Lanes<LANES>,
}

/// Scales, minima and their 6-bit forms, as they stand in the file, and all codes.
struct Block {
    front: [u8; FRONT],
    codes: [u8; SUPER],
}

/// 4 bits: two halves, 12 bytes of scales, 128 of codes.
pub(super) fn q4_k(values: &[f32; SUPER], out: &mut [u8; 144]) {
    let block = quantize(
        values,
        &Search {
            top: 15.0,
            first: -1.0,
            tries: 20,
        },
    );
    out[..FRONT].copy_from_slice(&block.front);
    low_bits(&block.codes, &mut out[FRONT..]);
}

/// 5 bits: two halves, 12 bytes of scales, 32 of fifth bits, 128 of codes.
pub(super) fn q5_k(values: &[f32; SUPER], out: &mut [u8; 176]) {
    let block = quantize(
        values,
        &Search {
            top: 31.0,
            first: -0.5,
            tries: 15,
        },
    );
    out[..FRONT].copy_from_slice(&block.front);
    let (fifth, low) = out[FRONT..].split_at_mut(LEN);
    fifth.fill(0);
    for (lane, codes) in block.codes.chunks_exact(LEN).enumerate() {
        for (bits, code) in fifth.iter_mut().zip(codes) {
            *bits |= (code >> 4) << lane;
        }
    }
    low_bits(&block.codes, low);
}

/// The lower four bits, two sub-blocks in 32 bytes.
fn low_bits(codes: &[u8; SUPER], out: &mut [u8]) {
    for (out, pair) in out.chunks_exact_mut(LEN).zip(codes.chunks_exact(2 * LEN)) {
        let (first, second) = pair.split_at(LEN);
        for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
            *out = (first & 15) | ((second & 15) << 4);
        }
    }
}

fn quantize(values: &[f32; SUPER], search: &Search) -> Block {
    let x = side_by_side::<LANES, LEN>(values);
    let fit = search.run(&x);
    let (front, scales) = quantize_scales(&fit);
    let mut codes = [0; SUPER];
    for (lane, (d, minimum)) in scales.into_iter().enumerate() {
        let codes = &mut codes[lane * LEN..(lane + 1) * LEN];
        let values = &values[lane * LEN..(lane + 1) * LEN];
        for (code, value) in codes.iter_mut().zip(values) {
            *code = if d == 0.0 {
                let code = rounded(fit.inverse[lane] * (value - fit.least[lane]));
                limited(code, 0.0, search.top) as u8
            } else {
                nearest((value + minimum) / d).clamp(0, search.top as i32) as u8
            };
        }
    }
    Block { front, codes }
}

/// The front of the block, and each sub-block's scale and minimum as they will be read back.
fn quantize_scales(fit: &Fit) -> ([u8; FRONT], [(f32, f32); LANES]) {
    let most = |of: &Lanes<LANES>| of.iter().fold(0.0_f32, |m, &v| if v > m { v } else { m });
    let (most_scale, most_minimum) = (most(&fit.scale), most(&fit.minimum));
    let inverse = |most: f32| if most > 0.0 { 63.0 / most } else { 0.0 };
    let six_bits = |inverse: f32, value: f32| (nearest(inverse * value) as u8).min(63);
    let (inv_scale, inv_minimum) = (inverse(most_scale), inverse(most_minimum));
    let d = f16::from_f32(most_scale / 63.0);
    let d_minimum = f16::from_f32(most_minimum / 63.0);
    let mut front = [0; FRONT];
    front[..2].copy_from_slice(&d.to_le_bytes());
    front[2..4].copy_from_slice(&d_minimum.to_le_bytes());
    let mut read_back = [(0.0, 0.0); LANES];
    for (lane, read_back) in read_back.iter_mut().enumerate() {
        let scale = six_bits(inv_scale, fit.scale[lane]);
        let minimum = six_bits(inv_minimum, fit.minimum[lane]);
        pack(&mut front[4..], lane, scale, minimum);
        *read_back = (
            d.to_f32() * f32::from(scale),
            d_minimum.to_f32() * f32::from(minimum),
        );
    }
    (front, read_back)
}

/// The first four sub-blocks have their six bits in a byte each, whose upper two bits take those of the last four.
fn pack(packed: &mut [u8], lane: usize, scale: u8, minimum: u8) {
    if lane < 4 {
        packed[lane] = scale;
        packed[lane + 4] = minimum;
    } else {
        packed[lane + 4] = (scale & 15) | ((minimum & 15) << 4);
        packed[lane - 4] |= (scale >> 4) << 6;
        packed[lane] |= (minimum >> 4) << 6;
    }
}

/// Sums over a sub-block that no try changes.
struct Sums {
    weights: [Lanes<LANES>; LEN],
    weight: Lanes<LANES>,
    weighted: Lanes<LANES>,
    least: Lanes<LANES>,
    most: Lanes<LANES>,
}

impl Sums {
    fn of(x: &[Lanes<LANES>; LEN]) -> Self {
        let mut squares = [0.0; LANES];
        for x in x {
            for (sum, x) in squares.iter_mut().zip(x) {
                *sum += x * x;
            }
        }
        let mean = squares.map(|sum| (sum / LEN as f32).sqrt());
        let weights: [Lanes<LANES>; LEN] =
            std::array::from_fn(|i| std::array::from_fn(|lane| mean[lane] + x[i][lane].abs()));
        let (mut least, mut most, mut weight) = (x[0], x[0], weights[0]);
        let mut weighted: Lanes<LANES> = std::array::from_fn(|lane| weights[0][lane] * x[0][lane]);
        for i in 1..LEN {
            for lane in 0..LANES {
                let x = x[i][lane];
                least[lane] = if x < least[lane] { x } else { least[lane] };
                most[lane] = if x > most[lane] { x } else { most[lane] };
                weight[lane] += weights[i][lane];
                weighted[lane] += weights[i][lane] * x;
            }
        }
        Self {
            weights,
            weight,
            weighted,
            least: least.map(|least| if least > 0.0 { 0.0 } else { least }),
            most,
        }
    }
}

impl Search {
    /// The best of all tries, by the weighted square of the error. A try that is better than those before moves the
    /// minimum that the next ones take codes from.
    fn run(&self, x: &[Lanes<LANES>; LEN]) -> Fit {
        let sums = Sums::of(x);
        let mut least = sums.least;
        let inverse: Lanes<LANES> = each(|lane| self.top / (sums.most[lane] - least[lane]));
        let mut fit = Fit {
            scale: inverse.map(|inverse| 1.0 / inverse),
            minimum: least,
            inverse,
            least,
        };
        let codes = self.codes(x, &inverse, &least);
        let mut best = error(x, &sums, &codes, &fit.scale, &fit.minimum);
        for attempt in 0..=self.tries {
            let offset = self.first + 0.1 * f32::from(attempt) + self.top;
            let inverse: Lanes<LANES> = each(|lane| offset / (sums.most[lane] - least[lane]));
            let codes = self.codes(x, &inverse, &least);
            let (scale, minimum, possible) = solve(x, &sums, &codes);
            let found = error(x, &sums, &codes, &scale, &minimum);
            for lane in 0..LANES {
                if possible[lane] && found[lane] < best[lane] {
                    best[lane] = found[lane];
                    fit.scale[lane] = scale[lane];
                    fit.minimum[lane] = minimum[lane];
                    fit.inverse[lane] = inverse[lane];
                    fit.least[lane] = least[lane];
                    least[lane] = minimum[lane];
                }
            }
        }
        // Where all numbers are one, nothing is searched: the minimum alone says it.
        for lane in (0..LANES).filter(|&lane| sums.most[lane] == sums.least[lane]) {
            fit.scale[lane] = 0.0;
            fit.minimum[lane] = sums.least[lane];
            fit.inverse[lane] = 0.0;
        }
        fit.minimum = fit.minimum.map(|minimum| -minimum);
        fit
    }

    #[inline]
    fn codes(
        &self,
        x: &[Lanes<LANES>; LEN],
        inverse: &Lanes<LANES>,
        least: &Lanes<LANES>,
    ) -> [Lanes<LANES>; LEN] {
        let mut codes = [[0.0; LANES]; LEN];
        for (codes, x) in codes.iter_mut().zip(x) {
            for lane in 0..LANES {
                let code = rounded(inverse[lane] * (x[lane] - least[lane]));
                codes[lane] = limited(code, 0.0, self.top);
            }
        }
        codes
    }
}

/// A number for each sub-block.
fn each(of: impl Fn(usize) -> f32) -> Lanes<LANES> {
    std::array::from_fn(of)
}

/// Scale and minimum that suit the codes best; whether there are any.
#[inline]
fn solve(
    x: &[Lanes<LANES>; LEN],
    sums: &Sums,
    codes: &[Lanes<LANES>; LEN],
) -> (Lanes<LANES>, Lanes<LANES>, [bool; LANES]) {
    let [mut l, mut l2, mut xl] = [[0.0_f32; LANES]; 3];
    for i in 0..LEN {
        for lane in 0..LANES {
            let weighted = sums.weights[i][lane] * codes[i][lane];
            l[lane] += weighted;
            l2[lane] += weighted * codes[i][lane];
            xl[lane] += weighted * x[i][lane];
        }
    }
    let [mut scale, mut minimum] = [[0.0_f32; LANES]; 2];
    let mut possible = [false; LANES];
    for lane in 0..LANES {
        let (weight, weighted) = (sums.weight[lane], sums.weighted[lane]);
        let determinant = weight * l2[lane] - l[lane] * l[lane];
        possible[lane] = determinant > 0.0;
        scale[lane] = (weight * xl[lane] - weighted * l[lane]) / determinant;
        minimum[lane] = (l2[lane] * weighted - l[lane] * xl[lane]) / determinant;
        if minimum[lane] > 0.0 {
            minimum[lane] = 0.0;
            scale[lane] = xl[lane] / l2[lane];
        }
    }
    (scale, minimum, possible)
}

/// The weighted square of what the codes leave.
#[inline]
fn error(
    x: &[Lanes<LANES>; LEN],
    sums: &Sums,
    codes: &[Lanes<LANES>; LEN],
    scale: &Lanes<LANES>,
    minimum: &Lanes<LANES>,
) -> Lanes<LANES> {
    let mut error = [0.0; LANES];
    for i in 0..LEN {
        for lane in 0..LANES {
            let left = scale[lane] * codes[i][lane] + minimum[lane] - x[i][lane];
            error[lane] += sums.weights[i][lane] * (left * left);
        }
    }
    error
}
