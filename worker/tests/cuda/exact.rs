//! What must be equal to the last bit: moves and integer sums.

use weft_common::sum_digest::{Flags, SumDigest};
use weft_worker::ops::cuda::{Halves, Memory};
use weft_worker::train::fixed_point;

use crate::support::{floats, gpu, halves, packed, poisoned, random, read, read_plain};

#[test]
pub(crate) fn moves_of_rows_are_exact() {
    let Some(gpu) = gpu() else { return };
    let (tokens, width) = (50, 1096);
    let x = random(tokens * width, 1);
    let chosen: Vec<u32> = (0..tokens as u32).filter(|i| i % 3 == 1).collect();
    let rows = gpu.upload_rows(&chosen, tokens).unwrap();
    let on_device = halves(gpu, tokens, &x);
    let mut gathered = poisoned(gpu, chosen.len(), width);
    gpu.gather_rows(&rows, 1.0, &on_device, &mut gathered)
        .unwrap();
    let expected: Vec<f32> = chosen
        .iter()
        .flat_map(|&row| x[row as usize * width..][..width].to_vec())
        .collect();
    assert_eq!(read(gpu, &gathered), expected);

    let mut scattered = poisoned(gpu, tokens, width);
    gpu.scatter_rows(&rows, &gathered, &mut scattered).unwrap();
    let mut back = vec![0.0; tokens * width];
    for (&row, values) in chosen.iter().zip(expected.chunks(width)) {
        back[row as usize * width..][..width].copy_from_slice(values);
    }
    assert_eq!(read(gpu, &scattered), back);

    let mut doubled = poisoned(gpu, chosen.len(), width);
    gpu.gather_rows(&rows, 2.0, &on_device, &mut doubled)
        .unwrap();
    let expected: Vec<f32> = expected.iter().map(|v| v * 2.0).collect();
    assert_eq!(read(gpu, &doubled), expected);

    let bias = random(width, 9);
    gpu.add_bias(chosen.len(), &floats(gpu, &bias), &mut doubled)
        .unwrap();
    let biased = expected.chunks(width).flat_map(|row| {
        row.iter()
            .zip(&bias)
            .map(|(v, b)| v + b)
            .collect::<Vec<_>>()
    });
    let half = gpu.gpu().half();
    let biased = half.widen(&half.round(&biased.collect::<Vec<_>>()));
    assert_eq!(read(gpu, &doubled), biased);
}

#[test]
pub(crate) fn copies_go_where_they_were_sent_and_nowhere_else() {
    let Some(gpu) = gpu() else { return };
    let (rows, width) = (9, 72);
    let x = random(rows * width, 1);
    let from = halves(gpu, rows, &x);
    let mut to = poisoned(gpu, rows, width);
    gpu.copy_rows(4, (&from, 5), (&mut to, 2)).unwrap();
    let copied = read(gpu, &to);
    assert_eq!(copied[2 * width..6 * width], x[5 * width..]);
    let (before, behind) = (&copied[..2 * width], &copied[6 * width..]);
    assert!(before.iter().chain(behind).all(|v| v.is_nan()));

    gpu.clear_rows(3, &mut to).unwrap();
    let cleared = read(gpu, &to);
    assert_eq!(cleared[..3 * width], vec![0.0; 3 * width]);
    assert_eq!(cleared[3 * width..6 * width], x[6 * width..]);

    let from = packed(gpu, 1, &x[..40]);
    let mut to = packed(gpu, 1, &[f32::NAN; 40]);
    gpu.copy_halves(16, from.place_at(8), to.place_mut_at(16))
        .unwrap();
    let copied = read(gpu, &to);
    assert_eq!(copied[16..32], x[8..24]);
    assert_eq!(copied.iter().filter(|v| v.is_nan()).count(), 24);
}

#[test]
pub(crate) fn matrices_side_by_side_know_their_neighbours_and_their_tail() {
    let Some(gpu) = gpu() else { return };
    let parts = gpu.halves(3, &[16, 8, 8], 12).unwrap();
    let [q, k, v] = &parts[..] else {
        panic!("three matrices")
    };
    assert!(q.is_followed_by(k) && k.is_followed_by(v) && !q.is_followed_by(v));
    assert_eq!(q.stride(), 64);
    assert_eq!([q, k, v].map(Halves::tail_column), [32, 16, 8]);
    let values = random(3 * 8, 5);
    let from = halves(gpu, 3, &values);
    let mut parts = parts;
    gpu.copy_rows(3, (&from, 0), (&mut parts[1], 0)).unwrap();
    let read = |matrix: &Halves| -> Vec<f32> {
        let bits = gpu.download_halves(matrix, 3).unwrap();
        gpu.gpu().half().widen(&bits)
    };
    assert_eq!(read(&parts[0]), vec![0.0; 48]);
    assert_eq!(read(&parts[1]), values);
    assert_eq!(read(&parts[2]), vec![0.0; 24]);
}

#[test]
fn integer_sums_and_their_digest_are_the_cpus() {
    let Some(gpu) = gpu() else { return };
    let len = 100_004;
    let mut sums = gpu.new_sums(Memory::Device, 2 * len).unwrap();
    let (mut expected, mut digest) = (vec![0_i64; 2 * len], SumDigest::default());
    for slot in 0..3_u64 {
        for offset in [0, len] {
            let mut grads: Vec<f32> = random(len, slot * 2 + u64::from(offset > 0))
                .iter()
                .enumerate()
                .map(|(i, v)| v * 2_f32.powi(-((i % 50) as i32)))
                .collect();
            grads[5..9].copy_from_slice(&[f32::NAN, f32::INFINITY, -4096.0, 2047.9999]);
            let mut fixed = vec![0; len];
            let flags = fixed_point::to_fixed(&grads, &mut fixed);
            digest = digest.plus(SumDigest::of(&fixed, offset).with_flags(flags));
            for (sum, term) in expected[offset..].iter_mut().zip(&fixed) {
                *sum += term;
            }
            // A scale changes nothing: both products are exact.
            let scale = 2_f32.powi(slot as i32);
            let scaled: Vec<f32> = grads.iter().map(|grad| grad * scale).collect();
            gpu.accumulate(
                (offset, len),
                (&floats(gpu, &scaled), 1.0 / scale),
                &mut sums,
            )
            .unwrap();
        }
        assert_eq!(
            gpu.end_slot(&mut sums).unwrap(),
            std::mem::take(&mut digest),
            "slot {slot}"
        );
    }
    assert_eq!(read_plain(gpu, sums.sums()), expected);
}

/// Gradients with a few that do not fit, as their integers, their flags and their place on the device.
fn sick_gradients(len: usize, seed: u64) -> (Vec<f32>, Vec<i64>, Flags) {
    let mut grads = random(len, seed);
    grads[3..5].copy_from_slice(&[f32::NAN, 1e30]);
    let mut fixed = vec![0; len];
    let flags = fixed_point::to_fixed(&grads, &mut fixed);
    (grads, fixed, flags)
}

#[test]
fn absorbed_sums_equal_added_ones_and_leave_nothing() {
    let Some(gpu) = gpu() else { return };
    let len = 70_004;
    let mut main = gpu.new_sums(Memory::Host, len).unwrap();
    let mut staging = gpu.new_sums(Memory::Device, len).unwrap();
    let (mut expected, mut flags) = (vec![0_i64; len], Flags::default());
    for slot in 0..3 {
        let (grads, fixed, own) = sick_gradients(len, slot);
        gpu.accumulate((0, len), (&floats(gpu, &grads), 1.0), &mut staging)
            .unwrap();
        let digest = SumDigest::of(&fixed, 0).with_flags(own);
        assert_eq!(gpu.end_slot(&mut staging).unwrap(), digest);
        gpu.absorb_sums(&mut main, &mut staging).unwrap();
        expected
            .iter_mut()
            .zip(&fixed)
            .for_each(|(sum, term)| *sum += term);
        flags += own;
    }
    let all = SumDigest::of(&expected, 0).with_flags(flags);
    assert_eq!(gpu.digest_of_sums(&main).unwrap(), all);
    assert_eq!(read_plain(gpu, main.sums()), expected);
    let nothing = SumDigest::default();
    assert_eq!(gpu.digest_of_sums(&staging).unwrap(), nothing);
    assert_eq!(gpu.end_slot(&mut main).unwrap(), nothing);

    gpu.clear_sums(&mut main).unwrap();
    assert_eq!(gpu.digest_of_sums(&main).unwrap(), nothing);
}

#[test]
fn a_slot_that_has_not_ended_goes_along_when_its_sums_are_absorbed() {
    let Some(gpu) = gpu() else { return };
    let len = 1000;
    let mut main = gpu.new_sums(Memory::Device, len).unwrap();
    let mut staging = gpu.new_sums(Memory::Device, len).unwrap();
    let (grads, fixed, flags) = sick_gradients(len, 1);
    gpu.accumulate((0, len), (&floats(gpu, &grads), 1.0), &mut staging)
        .unwrap();
    gpu.absorb_sums(&mut main, &mut staging).unwrap();
    let digest = SumDigest::of(&fixed, 0).with_flags(flags);
    assert_eq!(gpu.digest_of_sums(&main).unwrap(), digest);
    assert_eq!(gpu.end_slot(&mut main).unwrap(), digest);
    assert_eq!(gpu.digest_of_sums(&main).unwrap(), digest);
}

#[test]
fn parts_of_the_sums_go_to_the_host_and_back() {
    let Some(gpu) = gpu() else { return };
    let len = 1000;
    let mut sums = gpu.new_sums(Memory::Host, len).unwrap();
    let (grads, mut fixed, flags) = sick_gradients(len, 1);
    gpu.accumulate((0, len), (&floats(gpu, &grads), 1.0), &mut sums)
        .unwrap();
    let part = gpu.download_sums(&sums, 300..700).unwrap();
    assert_eq!(part, fixed[300..700]);
    let summed: Vec<i64> = part.iter().map(|value| value * 3).collect();
    gpu.upload_sums(&mut sums, 300..700, &summed).unwrap();
    fixed[300..700].copy_from_slice(&summed);
    assert_eq!(read_plain(gpu, sums.sums()), fixed);
    let digest = SumDigest::of(&fixed, 0).with_flags(flags);
    assert_eq!(gpu.digest_of_sums(&sums).unwrap(), digest);
}
