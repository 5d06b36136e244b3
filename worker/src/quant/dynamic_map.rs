//! The 8-bit dynamic maps: 256 numbers whose spacing grows with their magnitude.
//!
//! Source: bitsandbytes `functional.py`, `create_dynamic_map`. All arithmetic is f32 in its order, so that the entries
//! equal the stored ones bit for bit.

use std::sync::OnceLock;

/// The signed map, ascending: magnitudes of NF4 blocks, and the first moment of 8-bit Adam. Holds 0 and 1, but no −1.
pub fn signed() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| build(true))
}

/// The unsigned map, ascending from 0 to 1: the second moment of 8-bit Adam.
pub fn unsigned() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| build(false))
}

/// Index of the entry of `map` nearest to `value`; of two equally near ones the lower.
pub fn nearest(map: &[f32; 256], value: f32) -> u8 {
    let above = map.partition_point(|&entry| entry < value);
    let index = match above {
        0 => 0,
        256 => 255,
        _ if value - map[above - 1] <= map[above] - value => above - 1,
        _ => above,
    };
    u8::try_from(index).unwrap_or(u8::MAX)
}

fn build(is_signed: bool) -> [f32; 256] {
    let mut entries = vec![0.0, 1.0];
    for exponent in 0..7_i32 {
        let extra = i32::from(!is_signed);
        let boundaries = linspace((1_usize << (exponent + extra)) + 1);
        let scale = 10_f64.powi(exponent - 6) as f32;
        for pair in boundaries.windows(2) {
            let mean = (pair[0] + pair[1]) / 2.0;
            let entry = scale * mean;
            entries.push(entry);
            if is_signed {
                entries.push(-entry);
            }
        }
    }
    entries.sort_by(f32::total_cmp);
    let mut map = [0.0; 256];
    map.copy_from_slice(&entries);
    map
}

/// `count` numbers from 0.1 to 1, evenly spaced, as `torch.linspace` rounds them: each half is built from its own end,
/// with one rounding for product and sum.
fn linspace(count: usize) -> Vec<f32> {
    let step = (1.0_f32 - 0.1) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, 0.1)
            } else {
                step.mul_add(-((count - 1 - i) as f32), 1.0)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_hold_their_known_entries() {
        let (s, u) = (signed(), unsigned());
        for (index, expected) in [
            (0, -0.992_968_74),
            (1, -0.978_906_3),
            (126, -5.5e-7),
            (127, 0.0),
            (128, 5.5e-7),
            (254, 0.992_968_74),
            (255, 1.0),
        ] {
            assert!(
                (s[index] - expected).abs() <= f32::EPSILON * expected.abs(),
                "signed[{index}] = {}",
                s[index]
            );
        }
        for (index, expected) in [(0, 0.0), (1, 3.25e-7), (254, 0.996_484_4), (255, 1.0)] {
            assert!(
                (u[index] - expected).abs() <= f32::EPSILON * expected.abs(),
                "unsigned[{index}] = {}",
                u[index]
            );
        }
    }

    #[test]
    fn the_nearest_entry_is_the_nearest_by_linear_search() {
        let map = signed();
        for i in 0..=4000 {
            let value = (i as f32 - 2000.0) / 1900.0;
            let distance = |entry: f32| (entry - value).abs();
            let best = map
                .iter()
                .copied()
                .map(distance)
                .fold(f32::INFINITY, f32::min);
            assert_eq!(
                distance(map[usize::from(nearest(map, value))]),
                best,
                "{value}"
            );
        }
    }
}
