//! Writes the model as a Hugging Face folder.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::DType;
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::config::ModelConfig;
use crate::model::Weights;
use crate::tokenizer::{CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, START_OF_TURN};

/// Writes weights (bf16), config and tokenizer files into `out`, which is created where it is missing.
///
/// # Errors
///
/// A folder that cannot be written.
pub fn write_folder(
    out: &Path,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    weights: &Weights,
) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    write_weights(&out.join("model.safetensors"), weights)?;
    let text = tokenizer.to_string(false).map_err(anyhow::Error::msg)?;
    fs::write(out.join("tokenizer.json"), text).context("cannot write tokenizer.json")?;
    write_json(&out.join("config.json"), &model_config(config, tokenizer)?)?;
    write_json(
        &out.join("generation_config.json"),
        &generation_config(tokenizer)?,
    )?;
    write_json(
        &out.join("tokenizer_config.json"),
        &tokenizer_config(config),
    )?;
    write_json(&out.join("special_tokens_map.json"), &special_tokens())
}

fn write_weights(path: &Path, weights: &Weights) -> Result<()> {
    let mut stored = Vec::new();
    for (name, var) in weights {
        let values = var
            .to_dtype(DType::BF16)?
            .flatten_all()?
            .to_vec1::<bf16>()?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        stored.push((name, var.dims().to_vec(), bytes));
    }
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::BF16, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn model_config(config: &ModelConfig, tokenizer: &Tokenizer) -> Result<Value> {
    let mut value = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": id(tokenizer, END_OF_TEXT)?,
        "eos_token_id": id(tokenizer, END_OF_TURN)?,
        "pad_token_id": id(tokenizer, END_OF_TEXT)?,
        "hidden_act": "silu",
        "mlp_bias": false,
        "rope_scaling": null,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
    });
    let shape = serde_json::to_value(config)?;
    if let (Value::Object(all), Value::Object(shape)) = (&mut value, shape) {
        all.extend(shape);
    }
    Ok(value)
}

fn generation_config(tokenizer: &Tokenizer) -> Result<Value> {
    Ok(json!({
        "bos_token_id": id(tokenizer, END_OF_TEXT)?,
        "eos_token_id": [id(tokenizer, END_OF_TURN)?, id(tokenizer, END_OF_TEXT)?],
        "pad_token_id": id(tokenizer, END_OF_TEXT)?,
    }))
}

fn tokenizer_config(config: &ModelConfig) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": false,
        "add_prefix_space": false,
        "bos_token": null,
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
        "unk_token": null,
        "additional_special_tokens": [START_OF_TURN, END_OF_TURN],
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.max_position_embeddings,
        "chat_template": CHAT_TEMPLATE,
    })
}

fn special_tokens() -> Value {
    json!({
        "additional_special_tokens": [START_OF_TURN, END_OF_TURN],
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
    })
}

fn id(tokenizer: &Tokenizer, token: &str) -> Result<u32> {
    tokenizer
        .token_to_id(token)
        .with_context(|| format!("tokenizer lacks {token}"))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
