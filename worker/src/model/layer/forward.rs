//! The layer's forward, in the parts that training, prefill and decoding share.

use super::{Activations, Layer, Workspace};
use crate::model::Projection;
use crate::ops::{Ops, Out, Qkv, Spans, Turn};

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
        for (projection, y) in [
            (Projection::Q, &mut kept.q),
            (Projection::K, &mut kept.k),
            (Projection::V, &mut kept.v),
        ] {
            let linear = self.linear(projection);
            self.ops.adapted_forward(
                self.tokens.count,
                &work.xn,
                linear,
                &mut work.lora,
                Out::set(y),
            );
        }
        self.ops
            .rope(self.rotation(Turn::Forward), self.spec.heads, &mut kept.q);
        self.ops.rope(
            self.rotation(Turn::Forward),
            self.spec.kv_heads,
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
            Spans::whole(&self.tokens.documents),
            Qkv { q, k, v },
            attn,
            lse,
        );
    }

    /// Attention of the batch's queries over keys and values that lie elsewhere: a cache. `key_spans` are the cache's
    /// boundaries.
    pub fn attend_over(
        &self,
        kept: &mut Activations<O>,
        (k, v): (&O::Buf, &O::Buf),
        key_spans: &O::Ids,
    ) {
        let Activations { q, attn, lse, .. } = kept;
        let spans = Spans {
            queries: &self.tokens.documents,
            keys: key_spans,
        };
        self.ops
            .attention_forward(self.attention(), spans, Qkv { q, k, v }, attn, lse);
    }

    /// `x_mid = x_in + o(attn)`.
    pub fn attention_output(
        &self,
        x_in: &O::Buf,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
    ) {
        let Activations { attn, x_mid, .. } = kept;
        self.ops
            .copy(self.tokens.count * self.spec.hidden, x_in, x_mid);
        let linear = self.linear(Projection::O);
        self.ops.adapted_forward(
            self.tokens.count,
            attn,
            linear,
            &mut work.lora,
            Out::add(x_mid),
        );
    }

    /// Norm, then gate and up.
    pub fn mlp_inputs(&self, kept: &mut Activations<O>, work: &mut Workspace<O>) {
        let norm = self.norm(&self.weights.mlp_norm);
        self.ops
            .rms_norm_forward(norm, &kept.x_mid, &mut work.xn, &mut work.rstd);
        for (projection, y) in [
            (Projection::Gate, &mut kept.gate),
            (Projection::Up, &mut kept.up),
        ] {
            let linear = self.linear(projection);
            self.ops.adapted_forward(
                self.tokens.count,
                &work.xn,
                linear,
                &mut work.lora,
                Out::set(y),
            );
        }
    }

    /// `x_out = x_mid + down(act(gate) · up)`.
    pub fn mlp_output(&self, kept: &Activations<O>, work: &mut Workspace<O>, x_out: &mut O::Buf) {
        let tokens = self.tokens.count;
        let gate_up = (&kept.gate, &kept.up);
        self.ops.glu_forward(
            tokens * self.spec.ffn,
            self.spec.activation,
            gate_up,
            &mut work.h,
        );
        self.ops.copy(tokens * self.spec.hidden, &kept.x_mid, x_out);
        let linear = self.linear(Projection::Down);
        self.ops
            .adapted_forward(tokens, &work.h, linear, &mut work.lora, Out::add(x_out));
    }
}
