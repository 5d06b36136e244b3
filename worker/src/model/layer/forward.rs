//! The layer's forward, in the parts that training, prefill and decoding share.

use super::{Activations, Layer, Workspace};
use crate::model::Projection;
use crate::ops::{Ops, Qkv, Turn};

impl<O: Ops> Layer<'_, O> {
    /// The whole layer: fills `kept` and writes `x_out =`.
    pub fn forward(
        &self,
        x_in: &O::Buf,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
        x_out: &mut O::Buf,
    ) {
        self.recompute(x_in, kept, work);
        self.mlp_output(kept, work, x_out);
    }

    /// All of the layer but `down`: fills `kept` as [`Self::forward`] does.
    pub fn recompute(&self, x_in: &O::Buf, kept: &mut Activations<O>, work: &mut Workspace<O>) {
        self.attention_inputs(x_in, kept, work);
        self.attend(kept);
        self.attention_output(x_in, kept, work);
        self.mlp_inputs(kept, work);
    }

    /// Norm, then queries, keys and values; queries and keys rotated to their positions.
    pub fn attention_inputs(
        &self,
        x_in: &O::Buf,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
    ) {
        self.ops.rms_norm_forward(
            self.norm(&self.weights.attn_norm),
            x_in,
            &mut work.xn,
            &mut work.rstd,
        );
        let linears = [Projection::Q, Projection::K, Projection::V].map(|p| self.linear(p));
        let (tokens, spec) = (self.tokens.count, self.spec);
        let Activations { q, k, v, .. } = kept;
        self.ops.adapted_forward(
            tokens,
            &work.xn,
            &linears,
            &mut work.lora,
            &mut [q, k, v],
            None,
        );
        let heads = (spec.heads, spec.kv_heads);
        self.ops.rope(
            self.rotation(Turn::Forward),
            heads,
            &mut kept.q,
            &mut kept.k,
        );
    }

    /// Attention within each document of the batch.
    pub fn attend(&self, kept: &mut Activations<O>) {
        let Activations {
            q, k, v, attn, lse, ..
        } = kept;
        self.ops.attention_forward(
            self.attention(),
            &self.tokens.documents,
            Qkv { q, k, v },
            attn,
            lse,
        );
    }

    /// Attention of the batch's queries over keys and values that lie elsewhere: a cache. `documents` has the cache's
    /// boundaries.
    pub fn attend_over(
        &self,
        kept: &mut Activations<O>,
        (k, v): (&O::Buf, &O::Buf),
        documents: &O::Documents,
    ) {
        let Activations { q, attn, lse, .. } = kept;
        self.ops
            .attention_forward(self.attention(), documents, Qkv { q, k, v }, attn, lse);
    }

    /// `x_mid = x_in + o(attn)`.
    pub fn attention_output(
        &self,
        x_in: &O::Buf,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
    ) {
        let Activations { attn, x_mid, .. } = kept;
        self.ops.adapted_forward(
            self.tokens.count,
            attn,
            &[self.linear(Projection::O)],
            &mut work.lora,
            &mut [x_mid],
            Some(x_in),
        );
    }

    /// Norm, then gate and up.
    pub fn mlp_inputs(&self, kept: &mut Activations<O>, work: &mut Workspace<O>) {
        let norm = self.norm(&self.weights.mlp_norm);
        self.ops
            .rms_norm_forward(norm, &kept.x_mid, &mut work.xn, &mut work.rstd);
        let Activations { gate, up, .. } = kept;
        self.ops.adapted_forward(
            self.tokens.count,
            &work.xn,
            &[Projection::Gate, Projection::Up].map(|p| self.linear(p)),
            &mut work.lora,
            &mut [gate, up],
            None,
        );
    }

    /// `x_out = x_mid + down(act(gate) · up)`.
    pub fn mlp_output(&self, kept: &Activations<O>, work: &mut Workspace<O>, x_out: &mut O::Buf) {
        let tokens = self.tokens.count;
        let gate_up = (&kept.gate, &kept.up);
        self.ops.glu_forward(
            (tokens, self.spec.ffn),
            self.spec.activation,
            gate_up,
            &mut work.h,
        );
        self.ops.adapted_forward(
            tokens,
            &work.h,
            &[self.linear(Projection::Down)],
            &mut work.lora,
            &mut [x_out],
            Some(&kept.x_mid),
        );
    }
}
