//! The forward pass.

use rayon::prelude::*;

use super::super::gemm::{Target, View, single};
use super::super::math;
use super::tile::{Head, KEYS, QUERIES, Tile, key_tiles, over_queries, split};
use crate::ops::cpu::Documents;
use crate::ops::{AttentionShape, Qkv, Write};

/// What one task needs beside the inputs, for one head at a time.
struct Running {
    scores: Vec<f32>,
    largest: [f32; QUERIES],
    sum: [f32; QUERIES],
}

pub(in crate::ops::cpu) fn forward(
    shape: AttentionShape,
    documents: &Documents,
    qkv: Qkv<'_, Vec<f32>>,
    out_the: &mut [f32],
    lse_th: &mut [f32],
) {
    let tiles = over_queries(&documents.queries, &documents.keys);
    let outs = split(&tiles, shape.heads * shape.head_dim, out_the);
    let lses = split(&tiles, shape.heads, lse_th);
    let running = || Running {
        scores: vec![0.0; QUERIES * KEYS],
        largest: [0.0; QUERIES],
        sum: [0.0; QUERIES],
    };
    (tiles.par_iter().zip(outs).zip(lses))
        .with_max_len(1)
        .for_each_init(running, |running, ((tile, out), lse)| {
            for head in 0..shape.heads {
                running.head(shape, head, tile, &qkv, out);
                for (row, lse) in lse.chunks_mut(shape.heads).enumerate() {
                    lse[head] =
                        (f64::from(running.largest[row]) + f64::from(running.sum[row]).ln()) as f32;
                }
            }
        });
}

impl Running {
    /// One head of one tile, all keys that its queries see.
    fn head(
        &mut self,
        shape: AttentionShape,
        head: usize,
        tile: &Tile,
        qkv: &Qkv<'_, Vec<f32>>,
        out: &mut [f32],
    ) {
        let (of_query, of_keys) = (Head::of_query(shape, head), Head::of_keys(shape, head));
        let rows = tile.rows.len();
        self.largest.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        (0..rows).for_each(|row| of_query.row_mut(out, row).fill(0.0));
        let seen = tile.keys.start + tile.position(tile.rows.end - 1) + 1;
        for keys in key_tiles(tile.keys.start..seen) {
            let q = of_query.view(qkv.q, tile.rows.start);
            let k = of_keys.view(qkv.k, keys.start).t();
            let scores = Target::strided(&mut self.scores, KEYS, Write::Set);
            single(
                [rows, keys.len(), shape.head_dim],
                shape.scale,
                q,
                k,
                scores,
            );
            for row in 0..rows {
                let visible = tile.keys.start + tile.position(tile.rows.start + row) + 1;
                let visible = visible.saturating_sub(keys.start).min(keys.len());
                self.weigh(row, visible, keys.len(), of_query.row_mut(out, row));
            }
            let p = View::strided(&self.scores, KEYS);
            let v = of_keys.view(qkv.v, keys.start);
            single(
                [rows, shape.head_dim, keys.len()],
                1.0,
                p,
                v,
                of_query.target(out, 0, Write::Add),
            );
        }
        for row in 0..rows {
            let inverse = 1.0 / self.sum[row];
            of_query
                .row_mut(out, row)
                .iter_mut()
                .for_each(|v| *v *= inverse);
        }
    }

    /// Turns one row of scores into weights relative to the running maximum, and rescales what was summed so far.
    fn weigh(&mut self, row: usize, visible: usize, keys: usize, out: &mut [f32]) {
        let (scores, hidden) = self.scores[row * KEYS..][..keys].split_at_mut(visible);
        hidden.fill(0.0);
        if visible == 0 {
            return;
        }
        let largest = self.largest[row].max(math::max(scores));
        let rescale = math::exp(self.largest[row] - largest);
        self.sum[row] = self.sum[row] * rescale + math::exp_minus(scores, largest);
        self.largest[row] = largest;
        out.iter_mut().for_each(|v| *v *= rescale);
    }
}
