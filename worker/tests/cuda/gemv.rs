//! Products with one vector, and what is generated with them.

use std::ops::ControlFlow;

use weft_common::recipe::LoraSection;
use weft_worker::generate::{GenerateOptions, Generator};
use weft_worker::lora::Adapter;
use weft_worker::model::{Model, ModelWeights, Preset, RandomFormat, Spec, logits};
use weft_worker::ops::Ops;
use weft_worker::ops::cuda::{
    CudaOptions, GemvOutput, GroupAdapter, GroupMatrix, GroupPart, Halves,
};
use weft_worker::quant::{Absmax, Nf4Matrix, StoredDtype};
use weft_worker::train::PackedBatch;

use crate::support::{assert_close, gpu, opened, packed, random, read};

/// `alpha · (w·x + b·xa) + residual`.
fn expected(w: &[f32], x: &[f32], low: (&[f32], &[f32]), residual: &[f32], alpha: f32) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    let (b, xa) = low;
    let rows = w.chunks(x.len()).zip(b.chunks(xa.len())).zip(residual);
    rows.map(|((w, b), r)| (f64::from(alpha) * (dot(w, x) + dot(b, xa)) + f64::from(*r)) as f32)
        .collect()
}

fn widened(matrix: &Nf4Matrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    matrix.dequantize_rows_into(0..matrix.rows(), &mut values);
    values
}

fn single(matrix: &Nf4Matrix) -> Nf4Matrix {
    let blocks = matrix.rows() * matrix.cols() / 64;
    let magnitudes = (0..blocks).map(|i| 0.5 + (i % 17) as f32 * 0.1).collect();
    let shape = (matrix.rows(), matrix.cols());
    let packed = matrix.packed().to_vec();
    Nf4Matrix::from_parts(shape, packed, Absmax::Single(magnitudes), StoredDtype::F32).unwrap()
}

/// Doubly and simply quantized and dense below each other, each with its adapter and its residual; twice, for equal bits.
#[test]
pub(crate) fn a_vector_times_a_group_agrees_with_the_widened_matrices() {
    let Some(gpu) = gpu() else { return };
    for (cols, ranks, alpha) in [
        (64, [8, 4, 1], 1.0),
        (576, [16, 16, 16], 1.0),
        (4096, [16, 8, 40], 0.5),
        (14_336, [64, 0, 16], 1.0),
    ] {
        let rows = [70, 32, 300];
        let values = |i: usize| random(rows[i] * cols, i as u64);
        let double = Nf4Matrix::quantize(rows[0], cols, &values(0));
        let single = single(&Nf4Matrix::quantize(rows[1], cols, &values(1)));
        let dense = values(2);
        let tail = ranks.iter().sum::<usize>();
        let stride = cols + tail.next_multiple_of(8);
        let x = random(stride, 9);
        let device_x = packed(gpu, 1, &x);
        let on_device = [
            gpu.upload_nf4(&double).unwrap(),
            gpu.upload_nf4(&single).unwrap(),
        ];
        let dense_on_device = packed(gpu, rows[2], &dense);
        let matrices = [
            GroupMatrix::Nf4(&on_device[0]),
            GroupMatrix::Nf4(&on_device[1]),
            GroupMatrix::Dense(&dense_on_device),
        ];
        let starts = [0, ranks[0], ranks[0] + ranks[1]];
        // Rank 0 is no adapter; the array may not be empty.
        let bs = [0, 1, 2].map(|i| random(rows[i] * ranks[i].max(1), 20 + i as u64));
        let device_bs = [0, 1, 2].map(|i| packed(gpu, 1, &padded(&bs[i])));
        let parts = [0, 1, 2].map(|i| GroupPart {
            matrix: matrices[i],
            adapter: (ranks[i] > 0).then(|| GroupAdapter {
                b: device_bs[i].place(),
                rank: ranks[i],
                tail_column: starts[i],
            }),
        });
        let residuals = rows.map(|rows| random(rows, 30));
        let device_residuals = [0, 1, 2].map(|i| packed(gpu, 1, &padded(&residuals[i])));
        let multiply = || {
            let mut ys = rows.map(|rows| packed(gpu, 1, &padded(&vec![f32::NAN; rows])));
            let mut outputs: Vec<_> = (ys.iter_mut().zip(&device_residuals))
                .map(|(y, residual)| GemvOutput {
                    y: y.place_mut(),
                    residual: Some(residual.place()),
                })
                .collect();
            gpu.gemv_group((&parts, tail), alpha, device_x.place(), &mut outputs)
                .unwrap();
            ys.map(|y: Halves| read(gpu, &y))
        };
        let (ys, again) = (multiply(), multiply());
        let widened = [widened(&double), widened(&single), dense.clone()];
        for i in 0..3 {
            let xa = &x[cols + starts[i]..][..ranks[i].max(1)];
            let zero = vec![0.0; xa.len()];
            let xa = if ranks[i] == 0 { &zero[..] } else { xa };
            let w = expected(&widened[i], &x[..cols], (&bs[i], xa), &residuals[i], alpha);
            assert_close(
                &ys[i][..rows[i]],
                &w,
                &format!("part {i} of {cols} columns"),
            );
            assert!(ys[i][rows[i]..].iter().all(|v| v.is_nan()));
            let bits = |y: &[f32]| y.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&ys[i]), bits(&again[i]), "the same bits each time");
        }
    }
}

#[test]
pub(crate) fn the_likeliest_is_the_first_of_the_largest_and_nothing_is_where_one_is_not_finite() {
    let Some(gpu) = gpu() else { return };
    for width in [8, 512, 8192, 128_256] {
        let mut row = random(width, 5);
        let find = |row: &[f32]| {
            let row = packed(gpu, 1, row);
            let found = gpu.likeliest(width, &row).unwrap();
            (found, gpu.likeliest(width, &row).unwrap())
        };
        for at in [0, width / 2, width - 1] {
            row[at] = 1.5;
            let first = row.iter().position(|&v| v == 1.5).map(|at| at as u32);
            assert_eq!(find(&row), (first, first), "of {width}");
        }
        row[width - 1] = -3.0;
        let all_below = vec![-2.0; width];
        assert_eq!(find(&all_below).0, Some(0));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            row[width / 3] = wrong;
            assert_eq!(find(&row).0, None, "{wrong} of {width}");
        }
    }
}

/// To whole vectors, and at least one more number.
fn padded(values: &[f32]) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize((values.len() + 1).next_multiple_of(8), f32::NAN);
    padded
}

fn adapter(spec: &Spec) -> Adapter {
    let lora = LoraSection {
        r: 16,
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(spec, &lora, 5).unwrap();
    let changes = random(adapter.values().len(), 3);
    for (value, change) in adapter.values_mut().iter_mut().zip(changes) {
        *value += 0.05 * change;
    }
    adapter
}

/// Token after token over the cache is as likely as a forward over all of it says.
#[test]
pub(crate) fn greedy_generation_follows_the_forward_over_the_whole_sequence() {
    let spec = Preset::Tiny.spec();
    for with_adapter in [false, true] {
        let options = CudaOptions {
            ordinal: 0,
            head_dim: spec.head_dim,
            rank: if with_adapter { 16 } else { 0 },
            half: Some(crate::support::format()),
            lean: false,
            memory_limit: None,
        };
        let Some(cuda) = opened(options) else { return };
        let weights = ModelWeights::random(&spec, 7, RandomFormat::Nf4);
        let model = Model::new(cuda.by_rows(), spec.clone(), weights).unwrap();
        let adapter = with_adapter.then(|| adapter(&spec));
        let adapter = adapter.map(|own| own.map(|values| model.ops().upload_adapter(values)));
        let adapter = adapter.as_ref();
        let mut sequence: Vec<u32> = (0..150)
            .map(|i| (i * 37 + 11) % spec.vocab as u32)
            .collect();
        let options = GenerateOptions {
            max_new_tokens: 40,
            ..GenerateOptions::default()
        };
        let generator = Generator::new(&model, adapter);
        let generate = || {
            let go_on = &mut |_| ControlFlow::Continue(());
            generator
                .generate(&sequence, &options, go_on)
                .unwrap()
                .tokens
        };
        let tokens = generate();
        assert_eq!(tokens, generate(), "the same tokens each time");
        for token in tokens {
            let batch = PackedBatch::from_tokens(&sequence);
            let all = logits(&model, adapter, &batch, &[batch.len() as u32 - 1]);
            let most = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mean = all.iter().sum::<f32>() / all.len() as f32;
            let chosen = all[token as usize];
            assert!(
                most - chosen <= 0.05 * (most - mean),
                "token {token} after {}: {chosen} of {most}",
                sequence.len()
            );
            sequence.push(token);
        }
        model.ops().health().unwrap();
    }
}
