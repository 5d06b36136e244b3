//! Q6_K: sixteen sub-blocks of 16, each `scale · code`, scales of 8 bits.

use half::f16;

use super::lanes::{Lanes, SUPER, limited, nearest, rounded, side_by_side};

const LANES: usize = 16;
const LEN: usize = 16;
/// Codes reach from −32 to 31.
const TOP: f32 = 32.0;
/// What ggml takes for zero.
const NOTHING: f32 = 1e-15;

/// The sub-blocks' scales, and the inverse scales that the search took codes by.
struct Fit {
    scale: Lanes<LANES>,
    inverse: Lanes<LANES>,
    empty: [bool; LANES],
}

/// 6 bits: 128 bytes of lower bits, 64 of upper ones, 16 scales, a half.
pub(super) fn q6_k(values: &[f32; SUPER], out: &mut [u8; 210]) {
    let fit = search(&side_by_side::<LANES, LEN>(values));
    let mut largest = 0.0_f32;
    for &scale in &fit.scale {
        if scale.abs() > largest.abs() {
            largest = scale;
        }
    }
    out.fill(0);
    if largest.abs() < NOTHING {
        return;
    }
    let inverse = -128.0 / largest;
    let d = f16::from_f32(1.0 / inverse);
    let mut codes = [0_u8; SUPER];
    for lane in 0..LANES {
        let scale = nearest(inverse * fit.scale[lane]).min(127) as i8;
        out[192 + lane] = scale as u8;
        let d = d.to_f32() * f32::from(scale);
        let span = lane * LEN..(lane + 1) * LEN;
        for (code, &value) in codes[span.clone()].iter_mut().zip(&values[span]) {
            *code = if d != 0.0 {
                (nearest(value / d).clamp(-32, 31) + 32) as u8
            } else if fit.empty[lane] {
                0
            } else {
                (limited(rounded(fit.inverse[lane] * value), -TOP, TOP - 1.0) + TOP) as u8
            };
        }
    }
    pack(&codes, out);
    out[208..].copy_from_slice(&d.to_le_bytes());
}

/// Four runs of 32 codes share 64 bytes of lower and 32 of upper bits.
fn pack(codes: &[u8; SUPER], out: &mut [u8; 210]) {
    let (low, high) = out.split_at_mut(128);
    for (half, codes) in codes.chunks_exact(128).enumerate() {
        for i in 0..32 {
            let run = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
            low[half * 64 + i] = (run[0] & 15) | ((run[2] & 15) << 4);
            low[half * 64 + 32 + i] = (run[1] & 15) | ((run[3] & 15) << 4);
            high[half * 32 + i] =
                (run[0] >> 4) | (run[1] >> 4) << 2 | (run[2] >> 4) << 4 | (run[3] >> 4) << 6;
        }
    }
}

/// The best of nineteen inverse scales for each sub-block, weighted by the square of the numbers.
fn search(x: &[Lanes<LANES>; LEN]) -> Fit {
    let mut largest = [0.0_f32; LANES];
    for x in x {
        for (largest, &x) in largest.iter_mut().zip(x) {
            *largest = if x.abs() > largest.abs() { x } else { *largest };
        }
    }
    let empty = largest.map(|largest| largest.abs() < NOTHING);
    let mut fit = Fit {
        scale: [0.0; LANES],
        inverse: largest.map(|largest| -TOP / largest),
        empty,
    };
    let (xl, l2) = sums(x, &fit.inverse);
    let mut best = [0.0; LANES];
    for lane in 0..LANES {
        fit.scale[lane] = if l2[lane] != 0.0 {
            xl[lane] / l2[lane]
        } else {
            0.0
        };
        best[lane] = fit.scale[lane] * xl[lane];
    }
    for attempt in (-9_i8..=9).filter(|&attempt| attempt != 0) {
        let top = -(TOP + 0.1 * f32::from(attempt));
        let inverse = largest.map(|largest| top / largest);
        let (xl, l2) = sums(x, &inverse);
        for lane in 0..LANES {
            if l2[lane] > 0.0 && xl[lane] * xl[lane] > best[lane] * l2[lane] {
                fit.scale[lane] = xl[lane] / l2[lane];
                fit.inverse[lane] = inverse[lane];
                best[lane] = fit.scale[lane] * xl[lane];
            }
        }
    }
    for lane in (0..LANES).filter(|&lane| empty[lane]) {
        fit.scale[lane] = 0.0;
    }
    fit
}

/// Weighted products of numbers with codes, and of codes with themselves.
#[inline]
fn sums(x: &[Lanes<LANES>; LEN], inverse: &Lanes<LANES>) -> (Lanes<LANES>, Lanes<LANES>) {
    let [mut xl, mut l2] = [[0.0_f32; LANES]; 2];
    for x in x {
        for lane in 0..LANES {
            let code = limited(rounded(inverse[lane] * x[lane]), -TOP, TOP - 1.0);
            let weight = x[lane] * x[lane];
            xl[lane] += weight * x[lane] * code;
            l2[lane] += weight * code * code;
        }
    }
    (xl, l2)
}
