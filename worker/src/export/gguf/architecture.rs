//! A model's metadata but for its tokenizer.

use super::container::{MetaValue, Metadata};
use super::{Quantization, rotary};
use crate::export::ExportError;
use crate::model::{Activation, Spec};

/// The version of the block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// Refuses what llama.cpp would compute otherwise.
pub(super) fn check(spec: &Spec) -> Result<(), ExportError> {
    let is_llama =
        spec.activation == Activation::Silu && spec.norm_offset == 0.0 && spec.embed_scale == 1.0;
    if is_llama {
        return Ok(());
    }
    Err(ExportError::Unsupported {
        format: "a GGUF file",
        problem: "its activation, norms or embeddings are not those of the Llama and Mistral families; export merged-16bit \
                  and convert that with llama.cpp"
            .to_owned(),
    })
}

/// What stands in front of a whole model.
pub(super) fn model(spec: &Spec, name: &str, quantization: Quantization) -> Metadata {
    let mut keys = general("model", name);
    keys.push((
        "general.file_type".to_owned(),
        MetaValue::U32(quantization.file_type()),
    ));
    let count = |key: &str, value: usize| (format!("llama.{key}"), MetaValue::U32(value as u32));
    let float = |key: &str, value: f32| (format!("llama.{key}"), MetaValue::F32(value));
    keys.extend([
        count("vocab_size", spec.vocab),
        count("context_length", spec.context),
        count("embedding_length", spec.hidden),
        count("block_count", spec.layers),
        count("feed_forward_length", spec.ffn),
        count("attention.head_count", spec.heads),
        count("attention.head_count_kv", spec.kv_heads),
        count("attention.key_length", spec.head_dim),
        count("attention.value_length", spec.head_dim),
        float("attention.layer_norm_rms_epsilon", spec.rms_eps),
        count("rope.dimension_count", spec.head_dim),
        float("rope.freq_base", spec.rope.theta as f32),
    ]);
    keys.extend(rotary::scaling_keys(spec));
    keys
}

/// What stands in front of an adapter.
pub(super) fn adapter(name: &str, alpha: f32, quantization: Quantization) -> Metadata {
    let mut keys = general("adapter", name);
    keys.extend([
        (
            "general.file_type".to_owned(),
            MetaValue::U32(quantization.file_type()),
        ),
        ("adapter.type".to_owned(), MetaValue::from("lora")),
        ("adapter.lora.alpha".to_owned(), MetaValue::F32(alpha)),
    ]);
    keys
}

fn general(kind: &str, name: &str) -> Metadata {
    vec![
        ("general.architecture".to_owned(), MetaValue::from("llama")),
        ("general.type".to_owned(), MetaValue::from(kind)),
        ("general.name".to_owned(), MetaValue::from(name)),
        (
            "general.quantization_version".to_owned(),
            MetaValue::U32(QUANTIZATION_VERSION),
        ),
    ]
}
