//! Blocks of 32 with a scale, and a minimum where there is one.

use half::f16;

const BLOCK: usize = 32;

/// 8 bits: scale, then codes.
pub(super) fn q8_0(values: &[f32; BLOCK], out: &mut [u8; 34]) {
    let largest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (code, value) in out[2..].iter_mut().zip(values) {
        *code = (value * inverse).round() as i8 as u8;
    }
}

/// 5 bits around zero: scale, fifth bits, then codes. The largest magnitude becomes the code at the wider end.
pub(super) fn q5_0(values: &[f32; BLOCK], out: &mut [u8; 22]) {
    let mut largest = 0.0_f32;
    for &value in values {
        if value.abs() > largest.abs() {
            largest = value;
        }
    }
    let scale = largest / -16.0;
    let inverse = inverse(scale);
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    pack(&mut out[2..], |i| {
        ((values[i] * inverse + 16.5) as i8).min(31) as u8
    });
}

/// 5 bits above a minimum: scale, minimum, fifth bits, then codes.
pub(super) fn q5_1(values: &[f32; BLOCK], out: &mut [u8; 24]) {
    let least = values.iter().copied().fold(f32::MAX, f32::min);
    let most = values.iter().copied().fold(f32::MIN, f32::max);
    let scale = (most - least) / 31.0;
    let inverse = inverse(scale);
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(least).to_le_bytes());
    pack(&mut out[4..], |i| {
        ((values[i] - least) * inverse + 0.5) as u8
    });
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The fifth bits in front, then the lower four: element `i` beside element `i + 16`.
fn pack(out: &mut [u8], code: impl Fn(usize) -> u8) {
    let mut fifth = 0_u32;
    for i in 0..BLOCK / 2 {
        let (low, high) = (code(i), code(i + BLOCK / 2));
        out[4 + i] = (low & 15) | ((high & 15) << 4);
        fifth |= u32::from(low >> 4 & 1) << i | u32::from(high >> 4 & 1) << (i + BLOCK / 2);
    }
    out[..4].copy_from_slice(&fifth.to_le_bytes());
}
