//! A small model for unit tests.

use super::{Activation, ModelWeights, RandomFormat, RopeScaling, RopeSpec, Spec};

/// Two layers, grouped queries, a separate head.
pub(crate) fn toy() -> Spec {
    Spec {
        vocab: 97,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        context: 256,
        rms_eps: 1e-5,
        rope: RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::None,
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: false,
    }
}

/// Its weights, in f32.
pub(crate) fn random_weights(spec: &Spec, seed: u64) -> ModelWeights {
    ModelWeights::random(spec, seed, RandomFormat::F32)
}
