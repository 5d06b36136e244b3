//! Head and cross-entropy, chunk by chunk.

use rayon::prelude::*;

use super::gemm::{Target, View, tiled};
use super::linear::for_each_panel;
use super::math;
use super::scratch::ScratchPool;
use crate::model::FrozenLinear;
use crate::ops::Write;

/// Logits that exist at a time: 64 MiB. Widening the head again for every chunk is what a smaller one would cost.
const CHUNK_LOGITS: usize = 1 << 24;

pub(super) fn forward_backward(
    scratch: &ScratchPool,
    targets_s: &[u32],
    head_vd: &FrozenLinear,
    scale: f32,
    x_and_dx: (&[f32], &mut [f32]),
) -> f64 {
    let rows = chunk_rows(targets_s.len(), head_vd.rows());
    in_chunks(scratch, rows, targets_s, head_vd, scale, x_and_dx)
}

fn in_chunks(
    scratch: &ScratchPool,
    rows: usize,
    targets_s: &[u32],
    head_vd: &FrozenLinear,
    scale: f32,
    (x_sd, dx_sd): (&[f32], &mut [f32]),
) -> f64 {
    let (vocab, width) = (head_vd.rows(), head_vd.cols());
    let mut loss_sum = 0.0;
    let chunks = targets_s
        .chunks(rows)
        .zip(x_sd.chunks(rows * width))
        .zip(dx_sd.chunks_mut(rows * width));
    for ((targets, x), dx) in chunks {
        scratch.with(targets.len() * vocab, |logits| {
            head_forward(scratch, targets.len(), x, head_vd, logits);
            loss_sum += softmax_backward(targets, scale, vocab, logits);
            head_backward(scratch, targets.len(), logits, head_vd, dx);
        });
    }
    loss_sum
}

/// Rows of a chunk: equal chunks, as few as the limit allows.
fn chunk_rows(rows: usize, vocab: usize) -> usize {
    let most = (CHUNK_LOGITS / vocab).max(1);
    rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
}

fn head_forward(
    scratch: &ScratchPool,
    rows: usize,
    x: &[f32],
    head_vd: &FrozenLinear,
    logits: &mut [f32],
) {
    let (vocab, width) = (head_vd.rows(), head_vd.cols());
    let x = View::packed(x, (rows, width), false);
    for_each_panel(scratch, head_vd, |entries, values| {
        let w = View::packed(values, (width, entries.len()), true);
        let target = Target::strided(&mut logits[entries.start..], vocab, Write::Set);
        tiled([rows, entries.len(), width], 1.0, x, w, target);
    });
}

/// Turns logits into their gradient, in place. Returns the chunk's loss.
fn softmax_backward(targets: &[u32], scale: f32, vocab: usize, logits: &mut [f32]) -> f64 {
    let losses: Vec<f64> = (logits.par_chunks_mut(vocab))
        .zip(targets)
        .map(|(logits, &target)| {
            let target = target as usize;
            let largest = math::max(logits);
            let target_logit = logits[target] - largest;
            let sum = math::exp_minus(logits, largest);
            let factor = scale / sum;
            logits.iter_mut().for_each(|p| *p *= factor);
            logits[target] -= scale;
            f64::from(sum).ln() - f64::from(target_logit)
        })
        .collect();
    losses.iter().sum()
}

fn head_backward(
    scratch: &ScratchPool,
    rows: usize,
    dlogits: &[f32],
    head_vd: &FrozenLinear,
    dx: &mut [f32],
) {
    let (vocab, width) = (head_vd.rows(), head_vd.cols());
    let mut write = Write::Set;
    for_each_panel(scratch, head_vd, |entries, values| {
        let dlogits = View::strided(&dlogits[entries.start..], vocab);
        let w = View::packed(values, (entries.len(), width), false);
        tiled(
            [rows, width, entries.len()],
            1.0,
            dlogits,
            w,
            Target::packed(dx, width, write),
        );
        write = Write::Add;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DenseMatrix, DenseValues};

    #[test]
    fn the_size_of_a_chunk_changes_rounding_only() {
        let (rows, vocab, width) = (10, 50, 8);
        let numbers = |len: usize, seed: f32| {
            (0..len)
                .map(|i| ((i as f32 + 1.0) * seed).sin())
                .collect::<Vec<_>>()
        };
        let values = DenseValues::F32(numbers(vocab * width, 0.7));
        let head = FrozenLinear::Dense(DenseMatrix {
            rows: vocab,
            cols: width,
            values,
        });
        let (x, targets) = (
            numbers(rows * width, 0.3),
            (0..rows as u32).map(|i| i * 5).collect::<Vec<_>>(),
        );
        let run = |chunk: usize| {
            let mut dx = vec![f32::NAN; rows * width];
            let loss = in_chunks(
                &ScratchPool::default(),
                chunk,
                &targets,
                &head,
                0.5,
                (&x, &mut dx),
            );
            (loss, dx)
        };
        let (whole_loss, whole) = run(rows);
        for chunk in [1, 3, 7] {
            let (loss, dx) = run(chunk);
            assert!(
                (loss / whole_loss - 1.0).abs() < 1e-6,
                "chunks of {chunk}: {loss} for {whole_loss}"
            );
            assert!(
                dx.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6),
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn chunks_are_equal_and_within_the_limit() {
        assert_eq!(chunk_rows(508, 49_152), 254);
        assert_eq!(chunk_rows(100, 49_152), 100);
        assert_eq!(chunk_rows(0, 49_152), 1);
        assert!((1..5000).all(|rows| chunk_rows(rows, 128_256) * 128_256 <= CHUNK_LOGITS));
    }
}
