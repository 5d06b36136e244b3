//! What must be equal to the last bit: NF4, moves, integer sums.

use half::bf16;
use weft_common::sum_digest::SumDigest;
use weft_worker::quant::{Absmax, Nf4Matrix, StoredDtype};
use weft_worker::train::fixed_point;

use crate::support::{floats, gpu, halves, poisoned, random, read, read_plain};

fn dequantized(matrix: &Nf4Matrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    matrix.dequantize_rows_into(0..matrix.rows(), &mut values);
    values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect()
}

#[test]
fn nf4_dequantization_is_exact() {
    let Some(gpu) = gpu() else { return };
    for (rows, cols) in [(8, 8), (3, 576), (192, 64), (70, 4096)] {
        if rows * cols % 64 != 0 {
            continue;
        }
        let values: Vec<f32> = random(rows * cols, 7).iter().map(|v| v * 0.05).collect();
        let double = Nf4Matrix::quantize(rows, cols, &values);
        let magnitudes = (0..rows * cols / 64)
            .map(|i| 0.02 + i as f32 * 1e-4)
            .collect();
        for stored in [StoredDtype::F32, StoredDtype::Bf16, StoredDtype::F16] {
            let single = Nf4Matrix::from_parts(
                (rows, cols),
                double.packed().to_vec(),
                Absmax::Single(Clone::clone(&magnitudes)),
                stored,
            )
            .unwrap();
            for matrix in [single, double.clone().with_dtype(stored)] {
                let expected = dequantized(&matrix);
                let device = gpu.upload_nf4(&matrix).unwrap();
                for stride in [cols, cols + 16] {
                    let mut out = poisoned(gpu, rows * stride);
                    gpu.nf4_dequantize(&device, stride, &mut out).unwrap();
                    let out = read(gpu, &out);
                    for (ours, expected) in out.chunks(stride).zip(expected.chunks(cols)) {
                        assert_eq!(ours[..cols], *expected, "{rows}x{cols} {stored:?}");
                        assert!(ours[cols..].iter().all(|v| v.is_nan()));
                    }
                }
            }
        }
    }
}

#[test]
fn moves_of_rows_are_exact() {
    let Some(gpu) = gpu() else { return };
    let (tokens, width) = (50, 1096);
    let x = random(tokens * width, 1);
    let chosen: Vec<u32> = (0..tokens as u32).filter(|i| i % 3 == 1).collect();
    let rows = gpu.upload_rows(&chosen, tokens).unwrap();
    let mut gathered = poisoned(gpu, chosen.len() * width);
    gpu.gather_rows(&rows, (width, 1.0), &halves(gpu, &x), &mut gathered)
        .unwrap();
    let expected: Vec<f32> = chosen
        .iter()
        .flat_map(|&row| x[row as usize * width..][..width].to_vec())
        .collect();
    assert_eq!(read(gpu, &gathered), expected);

    let mut scattered = poisoned(gpu, tokens * width);
    gpu.scatter_rows(&rows, width, &gathered, &mut scattered)
        .unwrap();
    let mut back = vec![0.0; tokens * width];
    for (&row, values) in chosen.iter().zip(expected.chunks(width)) {
        back[row as usize * width..][..width].copy_from_slice(values);
    }
    assert_eq!(read(gpu, &scattered), back);

    let mut doubled = poisoned(gpu, chosen.len() * width);
    gpu.gather_rows(&rows, (width, 2.0), &halves(gpu, &x), &mut doubled)
        .unwrap();
    let expected: Vec<f32> = expected.iter().map(|v| v * 2.0).collect();
    assert_eq!(read(gpu, &doubled), expected);

    let bias = random(width, 9);
    gpu.add_bias(chosen.len(), &floats(gpu, &bias), &mut doubled)
        .unwrap();
    let biased = expected.chunks(width).flat_map(|row| {
        row.iter()
            .zip(&bias)
            .map(|(v, b)| bf16::from_f32(v + b).to_f32())
            .collect::<Vec<_>>()
    });
    assert_eq!(read(gpu, &doubled), biased.collect::<Vec<_>>());
}

#[test]
fn integer_sums_and_their_digest_are_the_cpus() {
    let Some(gpu) = gpu() else { return };
    let len = 100_004;
    let mut sums = gpu.new_sums(2 * len).unwrap();
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
            gpu.accumulate((offset, len), &floats(gpu, &grads), &mut sums)
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
