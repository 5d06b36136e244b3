//! Rotary frequencies: what is metadata, and what is the tensor `rope_freqs.weight`.

use super::container::{MetaValue, Metadata};
use crate::model::{RopeScaling, Spec};

/// The tensor of divisors.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// One divisor for each pair of a head's elements, where frequencies are stretched unevenly.
pub(super) fn divisors(spec: &Spec) -> Option<Vec<f32>> {
    match &spec.rope.scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => None,
        RopeScaling::Llama3 { .. } => Some(spec.rope.divisors(spec.head_dim)),
        RopeScaling::Factors(factors) => Some(factors.to_vec()),
    }
}

/// The keys of an even stretch.
pub(super) fn scaling_keys(spec: &Spec) -> Metadata {
    match spec.rope.scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => Vec::new(),
        RopeScaling::Linear { factor } => vec![
            (
                "llama.rope.scaling.type".to_owned(),
                MetaValue::from("linear"),
            ),
            (
                "llama.rope.scaling.factor".to_owned(),
                MetaValue::F32(factor as f32),
            ),
        ],
    }
}
