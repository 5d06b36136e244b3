//! The layer's backward.

use super::activations::GradWorkspace;
use super::{Activations, Layer, Workspace};
use crate::model::Projection;
use crate::ops::{AttentionGrads, AttentionSaved, Input, Ops, Qkv, Turn};

/// How far down a gradient is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// The layer below needs its gradient.
    Wanted,
    /// Nothing below is trained: the gradient stops at this layer's own adapters.
    Frozen,
}

impl<O: Ops> Layer<'_, O> {
    /// Turns `dx`, the gradient of the layer's output, into that of its input, in place, and writes the layer's
    /// adapter gradient, `=`, to `lora_grads`. With [`Below::Frozen`] `dx` is left unspecified. Consumes `kept`.
    ///
    /// # Panics
    /// If `work` was made for a forward alone.
    pub fn backward(
        &self,
        x_in: &O::Buf,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
        dx: &mut O::Buf,
        (lora_grads, below): (&mut O::Floats, Below),
    ) {
        self.mlp_backward(kept, work, dx, lora_grads);
        self.attention_backward(x_in, kept, work, dx, (lora_grads, below));
    }

    fn mlp_backward(
        &self,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
        dx: &mut O::Buf,
        lora_grads: &mut O::Floats,
    ) {
        let (ops, tokens) = (self.ops, self.tokens.count);
        let Workspace {
            xn,
            rstd,
            h,
            lora,
            grads,
        } = work;
        let GradWorkspace { dxn, .. } =
            grads.as_mut().expect("the workspace was made for training");
        let Activations {
            x_mid, gate, up, ..
        } = kept;
        let (shape, act) = ((tokens, self.spec.ffn), self.spec.activation);

        let down = [self.linear(Projection::Down)];
        ops.adapted_backward(tokens, &[&*dx], &down, lora, Some(h));
        ops.glu_backward(shape, act, h, (gate, up));
        let h_and_dy = (Input::Again(&*h), &[&*dx][..]);
        ops.adapter_gradients(tokens, h_and_dy, &down, lora, lora_grads);

        let norm = self.norm(&self.weights.mlp_norm);
        ops.rms_norm_forward(norm, x_mid, xn, rstd);
        let linears = [Projection::Gate, Projection::Up].map(|p| self.linear(p));
        let dy = &[&*gate, &*up];
        ops.adapted_backward(tokens, dy, &linears, lora, Some(dxn));
        let x_and_dy = (Input::Again(&*xn), &dy[..]);
        ops.adapter_gradients(tokens, x_and_dy, &linears, lora, lora_grads);
        ops.rms_norm_backward(norm, (x_mid, rstd), dxn, dx);
    }

    fn attention_backward(
        &self,
        x_in: &O::Buf,
        kept: &mut Activations<O>,
        work: &mut Workspace<O>,
        dx: &mut O::Buf,
        (lora_grads, below): (&mut O::Floats, Below),
    ) {
        let (ops, tokens) = (self.ops, self.tokens.count);
        let Workspace {
            xn,
            rstd,
            lora,
            grads,
            ..
        } = work;
        let GradWorkspace {
            dxn,
            dattn,
            dq,
            dk,
            dv,
            ..
        } = grads.as_mut().expect("the workspace was made for training");
        let Activations {
            q, k, v, attn, lse, ..
        } = kept;

        let o = [self.linear(Projection::O)];
        ops.adapted_backward(tokens, &[&*dx], &o, lora, Some(dattn));
        let attn_and_dy = (Input::Kept(&*attn), &[&*dx][..]);
        ops.adapter_gradients(tokens, attn_and_dy, &o, lora, lora_grads);
        let saved = AttentionSaved {
            qkv: Qkv { q, k, v },
            out: attn,
            lse,
        };
        let attention_grads = AttentionGrads { dq, dk, dv };
        ops.attention_backward(
            self.attention(),
            &self.tokens.documents,
            saved,
            dattn,
            attention_grads,
        );
        let heads = (self.spec.heads, self.spec.kv_heads);
        ops.rope(self.rotation(Turn::Backward), heads, dq, dk);

        let norm = self.norm(&self.weights.attn_norm);
        ops.rms_norm_forward(norm, x_in, xn, rstd);
        let linears = [Projection::Q, Projection::K, Projection::V].map(|p| self.linear(p));
        let wanted = (below == Below::Wanted).then_some(&mut *dxn);
        let dy = &[&*dq, &*dk, &*dv];
        ops.adapted_backward(tokens, dy, &linears, lora, wanted);
        let x_and_dy = (Input::Again(&*xn), &dy[..]);
        ops.adapter_gradients(tokens, x_and_dy, &linears, lora, lora_grads);
        if below == Below::Wanted {
            ops.rms_norm_backward(norm, (x_in, rstd), dxn, dx);
        }
    }
}
