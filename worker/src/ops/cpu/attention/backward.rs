//! The backward pass: dQ over tiles of queries, dK and dV over tiles of keys.

use std::ops::Range;

use rayon::prelude::*;

use super::super::gemm::{Target, View, single};
use super::super::math;
use super::tile::{Head, KEYS, QUERIES, Tile, key_tiles, over_queries, split};
use crate::ops::{AttentionGrads, AttentionSaved, AttentionShape, Cpu, Write};

/// What the backward reads.
struct Inputs<'a> {
    shape: AttentionShape,
    saved: AttentionSaved<'a, Cpu>,
    dout_the: &'a [f32],
    /// Σ dout·out of each query and head.
    delta_th: Vec<f32>,
}

/// A tile of probabilities and of the scores' gradients, rows of [`KEYS`] elements.
struct Scores {
    p: Vec<f32>,
    ds: Vec<f32>,
}

pub(in crate::ops::cpu) fn backward(
    shape: AttentionShape,
    documents: &[u32],
    saved: AttentionSaved<'_, Cpu>,
    dout_the: &[f32],
    grads: AttentionGrads<'_, Vec<f32>>,
) {
    let tiles = over_queries(documents, documents);
    let tokens = tiles.last().map_or(0, |tile| tile.rows.end);
    let delta_th = row_products(shape, tokens, dout_the, saved.out);
    let inputs = Inputs {
        shape,
        saved,
        dout_the,
        delta_th,
    };
    let scores = || Scores {
        p: vec![0.0; QUERIES * KEYS],
        ds: vec![0.0; QUERIES * KEYS],
    };

    let dqs = split(&tiles, shape.heads * shape.head_dim, grads.dq);
    (tiles.par_iter().zip(dqs))
        .with_max_len(1)
        .for_each_init(scores, |scores, (tile, dq)| {
            (0..shape.heads).for_each(|head| query_gradient(&inputs, scores, tile, head, dq));
        });

    let kv_width = shape.kv_heads * shape.head_dim;
    let (dks, dvs) = (
        split(&tiles, kv_width, grads.dk),
        split(&tiles, kv_width, grads.dv),
    );
    (tiles.par_iter().zip(dks).zip(dvs))
        .with_max_len(1)
        .for_each_init(scores, |scores, ((tile, dk), dv)| {
            dk.fill(0.0);
            dv.fill(0.0);
            (0..shape.heads).for_each(|head| key_gradient(&inputs, scores, tile, head, (dk, dv)));
        });
}

/// dQ of one tile's queries and one head, `=`.
fn query_gradient(
    inputs: &Inputs<'_>,
    scores: &mut Scores,
    tile: &Tile,
    head: usize,
    dq: &mut [f32],
) {
    let shape = inputs.shape;
    let (of_query, of_keys) = (Head::of_query(shape, head), Head::of_keys(shape, head));
    let mut write = Write::Set;
    for keys in key_tiles(tile.keys.start..tile.rows.end) {
        scores.compute(inputs, head, tile.rows.clone(), keys.clone());
        let ds = View::strided(&scores.ds, KEYS);
        let k = of_keys.view(inputs.saved.qkv.k, keys.start);
        single(
            [tile.rows.len(), shape.head_dim, keys.len()],
            shape.scale,
            ds,
            k,
            of_query.target(dq, 0, write),
        );
        write = Write::Add;
    }
}

/// What one query head adds to dK and dV of one tile's keys, `+=`.
fn key_gradient(
    inputs: &Inputs<'_>,
    scores: &mut Scores,
    tile: &Tile,
    head: usize,
    (dk, dv): (&mut [f32], &mut [f32]),
) {
    let shape = inputs.shape;
    let (of_query, of_keys) = (Head::of_query(shape, head), Head::of_keys(shape, head));
    let keys = tile.rows.clone();
    for start in (keys.start..tile.queries.end).step_by(QUERIES) {
        let queries = start..(start + QUERIES).min(tile.queries.end);
        let mnk = [keys.len(), shape.head_dim, queries.len()];
        scores.compute(inputs, head, queries.clone(), keys.clone());
        let dout = of_query.view(inputs.dout_the, queries.start);
        single(
            mnk,
            1.0,
            View::strided(&scores.p, KEYS).t(),
            dout,
            of_keys.target(dv, 0, Write::Add),
        );
        let q = of_query.view(inputs.saved.qkv.q, queries.start);
        single(
            mnk,
            shape.scale,
            View::strided(&scores.ds, KEYS).t(),
            q,
            of_keys.target(dk, 0, Write::Add),
        );
    }
}

impl Scores {
    /// Probabilities of queries × keys of one document, and the gradients of their scores before scaling.
    fn compute(
        &mut self,
        inputs: &Inputs<'_>,
        head: usize,
        queries: Range<usize>,
        keys: Range<usize>,
    ) {
        let shape = inputs.shape;
        let (of_query, of_keys) = (Head::of_query(shape, head), Head::of_keys(shape, head));
        let mnk = [queries.len(), keys.len(), shape.head_dim];
        let q = of_query.view(inputs.saved.qkv.q, queries.start);
        let k = of_keys.view(inputs.saved.qkv.k, keys.start).t();
        single(
            mnk,
            shape.scale,
            q,
            k,
            Target::strided(&mut self.p, KEYS, Write::Set),
        );
        let dout = of_query.view(inputs.dout_the, queries.start);
        let v = of_keys.view(inputs.saved.qkv.v, keys.start).t();
        single(
            mnk,
            1.0,
            dout,
            v,
            Target::strided(&mut self.ds, KEYS, Write::Set),
        );
        for (row, query) in queries.enumerate() {
            // Rows are those of the packed batch for queries and keys alike, so a key is visible up to the query's
            // own row.
            let visible = (query + 1).saturating_sub(keys.start).min(keys.len());
            let at = query * shape.heads + head;
            let (lse, delta) = (inputs.saved.lse[at], inputs.delta_th[at]);
            let (p, hidden_p) = self.p[row * KEYS..][..keys.len()].split_at_mut(visible);
            let (ds, hidden_ds) = self.ds[row * KEYS..][..keys.len()].split_at_mut(visible);
            hidden_p.fill(0.0);
            hidden_ds.fill(0.0);
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = math::exp(*p - lse);
                *ds = *p * (*ds - delta);
            }
        }
    }
}

/// Σ a·b of each token and head.
fn row_products(shape: AttentionShape, tokens: usize, a_the: &[f32], b_the: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; tokens * shape.heads];
    sums.par_chunks_mut(shape.heads)
        .enumerate()
        .for_each(|(token, sums)| {
            for (head, sum) in sums.iter_mut().enumerate() {
                let head = Head::of_query(shape, head);
                *sum = math::dot(head.row(a_the, token), head.row(b_the, token));
            }
        });
    sums
}
