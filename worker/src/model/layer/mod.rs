//! The decoder layer, forward and backward, written once over [`Ops`].
//!
//! ```text
//! x_in ─ norm ─ q,k,v ─ rope ─ attention ─ o ─(+)─ x_mid ─ norm ─ gate,up ─ glu ─ down ─(+)─ x_out
//!   └──────────────────────────────────────────┘      └─────────────────────────────────────┘
//! ```
//!
//! [`Activations`] is what the backward needs of the forward. A plan that recomputes fills it again from `x_in` just
//! before the backward, by the same code, and leaves out `down`: its output is never needed again. Norm and
//! gated-unit outputs are cheaper to compute than to keep, so they live in [`Workspace`] only.

mod activations;
mod backward;
mod forward;
mod lent;

pub use activations::{Activations, GradWorkspace, Workspace};
pub use backward::Below;
pub use lent::Lent;

use super::{DeviceLayer, Projection, Spec};
use crate::lora::Adapter;
use crate::ops::{AdaptedLinear, AttentionShape, LoraBranch, Norm, Ops, Rotation, Turn};

/// One layer of a model with its adapter, and the tokens it runs on.
pub struct Layer<'a, O: Ops> {
    /// The backend.
    pub ops: &'a O,
    /// The model's dimensions.
    pub spec: &'a Spec,
    /// The frozen weights.
    pub weights: &'a DeviceLayer<O>,
    /// The adapter; without one the base model runs alone.
    pub adapter: Option<&'a Adapter<O::Params>>,
    /// Which layer.
    pub index: usize,
    /// The tokens.
    pub tokens: &'a Tokens<O>,
}

/// What all layers share of a packed batch.
pub struct Tokens<O: Ops> {
    /// How many.
    pub count: usize,
    /// Document boundaries.
    pub documents: O::Documents,
    /// Cosines of rotary angles, tokens × half a head.
    pub cos: O::Floats,
    /// Sines of rotary angles.
    pub sin: O::Floats,
}

impl<O: Ops> Tokens<O> {
    /// Moves boundaries and angles to the device.
    pub fn new(ops: &O, spec: &Spec, cu_seqlens: &[u32], positions: &[u32]) -> Self {
        let (cos, sin) = spec.rope.angles(spec.head_dim, positions);
        let documents = ops.upload_documents(cu_seqlens);
        Self {
            count: positions.len(),
            documents,
            cos: ops.upload(cos),
            sin: ops.upload(sin),
        }
    }

    /// One token at `position`, whose keys are its own and those of all before it, in a cache.
    pub fn continuing(ops: &O, spec: &Spec, position: u32) -> Self {
        let (cos, sin) = spec.rope.angles(spec.head_dim, &[position]);
        Self {
            count: 1,
            documents: ops.upload_continued(&[0, 1], &[0, position + 1]),
            cos: ops.upload(cos),
            sin: ops.upload(sin),
        }
    }
}

impl<'a, O: Ops> Layer<'a, O> {
    fn linear(&self, projection: Projection) -> AdaptedLinear<'a, O> {
        let linear = self.weights.linear(projection);
        let branch = |adapter: &'a Adapter<O::Params>| {
            let pair = adapter.layout().pair(self.index, projection)?;
            let grad_base = adapter.layout().layer(self.index).start;
            Some(LoraBranch {
                values: adapter.values(),
                pair,
                scale: adapter.scale(),
                grad_base,
            })
        };
        AdaptedLinear {
            weight: &linear.weight,
            bias: linear.bias.as_ref(),
            shape: self.spec.shape(projection),
            lora: self.adapter.and_then(branch),
        }
    }

    fn norm(&self, weight: &'a O::Floats) -> Norm<'a, O::Floats> {
        Norm {
            weight,
            eps: self.spec.rms_eps,
            tokens: self.tokens.count,
            width: self.spec.hidden,
        }
    }

    fn rotation(&self, turn: Turn) -> Rotation<'a, O::Floats> {
        let Tokens {
            count, cos, sin, ..
        } = self.tokens;
        Rotation {
            cos,
            sin,
            tokens: *count,
            head_dim: self.spec.head_dim,
            turn,
        }
    }

    fn attention(&self) -> AttentionShape {
        let Spec {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self.spec;
        AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }
}
