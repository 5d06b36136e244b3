//! The files beside the weights of a merged model: `config.json`, `generation_config.json`, the tokenizer's.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use weft_common::data::ChatTokenizer;
use weft_common::storage::{StorageError, write_atomic};

use super::folder::Linears;
use super::{ExportError, HalfType};
use crate::model::{RopeScaling, Spec};

/// Writes what transformers needs beside the weights.
pub(super) fn write(
    folder: &Path,
    (base, spec): (&Path, &Spec),
    tokenizer: &ChatTokenizer,
    (half, linears): (HalfType, Linears),
) -> Result<(), ExportError> {
    let config = match read(&base.join("config.json")) {
        Some(config) => config,
        None => from_spec(spec, tokenizer),
    };
    write_json(
        &folder.join("config.json"),
        &model_config(config, half, linears).into(),
    )?;
    let generation = read(&base.join("generation_config.json")).unwrap_or_default();
    let generation = generation_config(generation, tokenizer);
    write_json(&folder.join("generation_config.json"), &generation.into())?;
    write_tokenizer(folder, base, tokenizer)
}

/// Writes the tokenizer as training left it, and SentencePiece's own file where the base model has it.
pub(super) fn write_tokenizer(
    folder: &Path,
    base: &Path,
    tokenizer: &ChatTokenizer,
) -> Result<(), ExportError> {
    let failed = |error| StorageError::new("write", folder, error);
    tokenizer.save_pretrained(folder).map_err(failed)?;
    let model = base.join("tokenizer.model");
    if model.is_file() {
        fs::copy(&model, folder.join("tokenizer.model")).map_err(failed)?;
    }
    Ok(())
}

fn read(path: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_json(path: &Path, value: &Value) -> Result<(), StorageError> {
    write_atomic(path, format!("{value:#}\n").as_bytes())
}

/// The base model's configuration with what has changed.
fn model_config(
    mut config: Map<String, Value>,
    half: HalfType,
    linears: Linears,
) -> Map<String, Value> {
    config.shift_remove("quantization_config");
    // transformers 5 says `dtype`; both read `torch_dtype`.
    let key = if config.contains_key("dtype") {
        "dtype"
    } else {
        "torch_dtype"
    };
    config.insert(key.to_owned(), json!(half.torch()));
    if linears == Linears::Nf4 {
        config.insert("quantization_config".to_owned(), quantization_config(half));
    }
    config
}

/// What bitsandbytes needs to know; its own defaults are other ones.
fn quantization_config(half: HalfType) -> Value {
    json!({
        "_load_in_4bit": true,
        "_load_in_8bit": false,
        "bnb_4bit_compute_dtype": half.torch(),
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": true,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_skip_modules": null,
        "llm_int8_threshold": 6.0,
        "load_in_4bit": true,
        "load_in_8bit": false,
        "quant_method": "bitsandbytes",
    })
}

/// The base model's, ending where the chat template ends a turn too: a base model's own end is that of a document.
fn generation_config(
    mut config: Map<String, Value>,
    tokenizer: &ChatTokenizer,
) -> Map<String, Value> {
    let ends = tokenizer.eos_ids();
    match ends {
        [] => {}
        [one] => drop(config.insert("eos_token_id".to_owned(), json!(one))),
        several => drop(config.insert("eos_token_id".to_owned(), json!(several))),
    }
    for (key, id) in named_ids(tokenizer) {
        config.entry(key).or_insert(json!(id));
    }
    config
}

fn named_ids(tokenizer: &ChatTokenizer) -> impl Iterator<Item = (&'static str, u32)> {
    let id = |name| {
        tokenizer
            .special_token(name)
            .and_then(|token| tokenizer.token_id(token))
    };
    let ids = [
        ("bos_token_id", id("bos_token")),
        ("eos_token_id", id("eos_token")),
        ("pad_token_id", id("pad_token")),
    ];
    ids.into_iter().filter_map(|(key, id)| Some((key, id?)))
}

/// The configuration of a model that came as a GGUF file.
fn from_spec(spec: &Spec, tokenizer: &ChatTokenizer) -> Map<String, Value> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "hidden_size": spec.hidden,
        "initializer_range": 0.02,
        "intermediate_size": spec.ffn,
        "max_position_embeddings": spec.context,
        "mlp_bias": false,
        "num_attention_heads": spec.heads,
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.kv_heads,
        "rms_norm_eps": shortest(spec.rms_eps),
        "rope_scaling": rope_scaling(spec),
        "rope_theta": spec.rope.theta,
        "tie_word_embeddings": spec.tied_head,
        "torch_dtype": null,
        "use_cache": true,
        "vocab_size": spec.vocab,
    });
    let Value::Object(mut config) = config else {
        unreachable!("it was written as an object");
    };
    for (key, id) in named_ids(tokenizer) {
        config.insert(key.to_owned(), json!(id));
    }
    config
}

/// An f32 by its shortest text: 1e-5, not what its neighbour in double precision is.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn rope_scaling(spec: &Spec) -> Value {
    match &spec.rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        }),
        // Refused before: these have no name in transformers.
        RopeScaling::Factors(_) => Value::Null,
    }
}
