//! The forward pass alone.

use super::layer::{Activations, Layer, Tokens, Workspace};
use super::{Model, Spec};
use crate::lora::Adapter;
use crate::ops::{Norm, Ops};
use crate::train::PackedBatch;

/// Runs all layers over a packed batch and returns the residual stream before the last norm, tokens × hidden.
///
/// `observe` sees each layer's activations as they are computed; prefilling takes keys and values there.
///
/// # Panics
/// If a token lies outside the vocabulary.
pub fn hidden_states<O: Ops>(
    model: &Model<O>,
    adapter: Option<&Adapter<O::Params>>,
    batch: &PackedBatch,
    mut observe: impl FnMut(usize, &Activations<O>),
) -> O::Buf {
    let (ops, spec) = (model.ops(), model.spec());
    let rank = adapter.map_or(0, |adapter| adapter.layout().max_rank());
    let tokens = Tokens::new(ops, spec, batch.cu_seqlens(), &batch.positions());
    let mut kept = Activations::new(ops, spec, batch.len());
    let mut work = Workspace::for_forward(ops, spec, batch.len(), rank);
    let mut x = ops.alloc(batch.len(), spec.hidden);
    let mut next = ops.alloc(batch.len(), spec.hidden);
    ops.embed(
        &ops.upload_ids(batch.tokens(), spec.vocab),
        model.embed(),
        spec.embed_scale,
        &mut x,
    );
    for index in 0..spec.layers {
        let layer = Layer {
            ops,
            spec,
            weights: model.layer(index),
            adapter,
            index,
            tokens: &tokens,
        };
        layer.forward(&x, &mut kept, &mut work, &mut next);
        observe(index, &kept);
        std::mem::swap(&mut x, &mut next);
    }
    x
}

/// Logits of some rows of the residual stream, rows × vocabulary.
///
/// `tokens` is how many rows the stream has.
pub fn head_logits<O: Ops>(
    model: &Model<O>,
    (x_td, tokens): (&O::Buf, usize),
    rows: &[u32],
) -> Vec<f32> {
    let (
        ops,
        &Spec {
            hidden,
            vocab,
            rms_eps,
            ..
        },
    ) = (model.ops(), model.spec());
    let count = rows.len();
    let (mut x, mut xn) = (ops.alloc(count, hidden), ops.alloc(count, hidden));
    let (mut rstd, mut y) = (ops.alloc_floats(count), ops.alloc(count, vocab));
    ops.gather_rows(&ops.upload_ids(rows, tokens), hidden, x_td, &mut x);
    let norm = Norm {
        weight: model.final_norm(),
        eps: rms_eps,
        tokens: count,
        width: hidden,
    };
    ops.rms_norm_forward(norm, &x, &mut xn, &mut rstd);
    ops.linear_forward(count, &xn, model.head(), &mut y);
    let mut logits = vec![0.0; count * vocab];
    ops.read(&y, vocab, &mut logits);
    logits
}

/// Logits at some positions of a packed batch, positions × vocabulary.
///
/// # Panics
/// If a token lies outside the vocabulary.
pub fn logits<O: Ops>(
    model: &Model<O>,
    adapter: Option<&Adapter<O::Params>>,
    batch: &PackedBatch,
    rows: &[u32],
) -> Vec<f32> {
    let x_td = hidden_states(model, adapter, batch, |_, _| ());
    head_logits(model, (&x_td, batch.len()), rows)
}
