//! Buffers of a layer: what is kept for the backward, and what is reused by every layer.

use super::super::Spec;
use super::Lent;
use crate::ops::{Ops, Sizes};

/// What the backward of one layer needs of its forward, beside the layer's input.
pub struct Activations<O: Ops> {
    /// Queries, rotated.
    pub q: O::Buf,
    /// Keys, rotated.
    pub k: O::Buf,
    /// Values.
    pub v: O::Buf,
    /// Attention output before `o_proj`.
    pub attn: O::Buf,
    /// Logarithm of the attention's sum of exponentials.
    pub lse: O::Floats,
    /// Residual stream between attention and MLP.
    pub x_mid: O::Buf,
    /// Gate before its activation; the backward turns it into its gradient.
    pub gate: O::Buf,
    /// Up; the backward turns it into its gradient.
    pub up: O::Buf,
}

impl<O: Ops> Activations<O> {
    /// Bytes of the buffers for `tokens` tokens.
    pub fn bytes(ops: &impl Sizes, spec: &Spec, tokens: usize) -> u64 {
        let matrices = [
            ops.matrix_bytes(tokens, &[spec.q_dim(), spec.kv_dim(), spec.kv_dim()]),
            ops.matrix_bytes(tokens, &[spec.q_dim()]),
            ops.matrix_bytes(tokens, &[spec.hidden]),
            ops.matrix_bytes(tokens, &[spec.ffn, spec.ffn]),
        ];
        matrices.iter().sum::<u64>() + floats_bytes(tokens * spec.heads)
    }

    /// Buffers for `tokens` tokens.
    pub fn new(ops: &O, spec: &Spec, tokens: usize) -> Self {
        let [q, k, v] = ops.alloc_joined(tokens, [spec.q_dim(), spec.kv_dim(), spec.kv_dim()]);
        let [gate, up] = ops.alloc_joined(tokens, [spec.ffn, spec.ffn]);
        Self {
            q,
            k,
            v,
            attn: ops.alloc(tokens, spec.q_dim()),
            lse: ops.alloc_floats(tokens * spec.heads),
            x_mid: ops.alloc(tokens, spec.hidden),
            gate,
            up,
        }
    }
}

/// Buffers that every layer's forward and backward reuse.
pub struct Workspace<O: Ops> {
    /// Output of a norm.
    pub xn: O::Buf,
    /// Reciprocal root mean squares.
    pub rstd: O::Floats,
    /// Output of the gated unit, and its gradient.
    pub h: O::Buf,
    /// The adapter's low-rank intermediates.
    pub lora: O::Scratch,
    /// What only the backward needs.
    pub grads: Option<GradWorkspace<O>>,
}

/// Gradients of a layer's intermediates. Those of the attention lie where the gated unit's output does.
pub struct GradWorkspace<O: Ops> {
    /// Of a norm's output.
    pub dxn: O::Buf,
    /// Of the attention's output.
    pub dattn: O::Buf,
    /// Of the queries.
    pub dq: O::Buf,
    /// Of the keys.
    pub dk: O::Buf,
    /// Of the values.
    pub dv: O::Buf,
}

impl<O: Ops> Workspace<O> {
    /// Bytes of the buffers for forward and backward of `tokens` tokens.
    pub fn bytes(ops: &impl Sizes, spec: &Spec, tokens: usize) -> u64 {
        let norms = 2 * ops.matrix_bytes(tokens, &[spec.hidden]);
        let mut lent = Lent::of(ops, tokens, spec.ffn);
        let attention = lent.bytes_of(ops, &[spec.q_dim()])
            + lent.bytes_of(ops, &[spec.q_dim(), spec.kv_dim(), spec.kv_dim()]);
        norms + ops.matrix_bytes(tokens, &[spec.ffn]) + attention + floats_bytes(tokens)
    }

    /// Buffers for a forward alone, at adapter rank `rank`.
    pub fn for_forward(ops: &O, spec: &Spec, tokens: usize, rank: usize) -> Self {
        Self {
            xn: ops.alloc(tokens, spec.hidden),
            rstd: ops.alloc_floats(tokens),
            h: ops.alloc(tokens, spec.ffn),
            lora: ops.alloc_scratch(spec, tokens, rank),
            grads: None,
        }
    }

    /// Buffers for forward and backward, at adapter rank `rank`.
    pub fn for_training(ops: &O, spec: &Spec, tokens: usize, rank: usize) -> Self {
        let mut work = Self::for_forward(ops, spec, tokens, rank);
        let mut lent = Lent::of(ops, tokens, spec.ffn);
        let [dattn] = lent.alloc(ops, &work.h, [spec.q_dim()]);
        let [dq, dk, dv] = lent.alloc(ops, &work.h, [spec.q_dim(), spec.kv_dim(), spec.kv_dim()]);
        work.grads = Some(GradWorkspace {
            dxn: ops.alloc(tokens, spec.hidden),
            dattn,
            dq,
            dk,
            dv,
        });
        work
    }
}

fn floats_bytes(len: usize) -> u64 {
    (len * size_of::<f32>()) as u64
}
