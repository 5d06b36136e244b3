//! `config.json` of a Hugging Face folder → [`Spec`].

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::error::LoadError;
use crate::model::{Activation, RopeScaling, RopeSpec, Spec};

/// The families whose layers the engine computes.
const SUPPORTED: &[&str] = &["LlamaForCausalLM", "MistralForCausalLM"];

/// The keys that shape the computation; all others are metadata. Defaults are those of transformers.
#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_rms_norm_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    #[serde(default = "default_context")]
    max_position_embeddings: usize,
    sliding_window: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_activation")]
    hidden_act: String,
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}

fn default_context() -> usize {
    2048
}

fn default_activation() -> String {
    "silu".to_owned()
}

/// `rope_scaling` of transformers 4, or `rope_parameters` of transformers 5, which holds theta as well.
#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// The older name; some files have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// Reads the model's shape.
pub(super) fn read_spec(path: &Path) -> Result<Spec, LoadError> {
    let text = std::fs::read(path).map_err(|source| LoadError::read(path, source))?;
    let value: Value = serde_json::from_slice(&text)
        .map_err(|e| LoadError::damaged(path, format!("it is not JSON ({e})")))?;
    check_architecture(path, &value)?;
    check_quantization(path, &value)?;
    let config: Config =
        serde_json::from_value(value).map_err(|e| LoadError::config(path, e.to_string()))?;
    let spec = Spec {
        vocab: config.vocab_size,
        hidden: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        kv_heads: config
            .num_key_value_heads
            .unwrap_or(config.num_attention_heads),
        head_dim: config
            .head_dim
            .unwrap_or(config.hidden_size / config.num_attention_heads.max(1)),
        ffn: config.intermediate_size,
        context: attended(&config),
        rms_eps: config.rms_norm_eps as f32,
        rope: read_rope(path, &config)?,
        activation: read_activation(path, &config.hidden_act)?,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: config.tie_word_embeddings,
    };
    spec.validate()
        .map_err(|e| LoadError::config(path, e.to_string()))?;
    Ok(spec)
}

/// Looks at the family before anything else, because another family may lack every other key.
fn check_architecture(path: &Path, config: &Value) -> Result<(), LoadError> {
    let found = match (
        config["architectures"][0].as_str(),
        config["model_type"].as_str(),
    ) {
        (Some(name), _) => name,
        (None, Some("llama")) => "LlamaForCausalLM",
        (None, Some("mistral")) => "MistralForCausalLM",
        (None, Some(model_type)) => model_type,
        (None, None) => {
            let problem = "it names neither `architectures` nor `model_type`; take the config.json of a language model";
            return Err(LoadError::config(path, problem));
        }
    };
    if SUPPORTED.contains(&found) {
        return Ok(());
    }
    Err(LoadError::UnsupportedArchitecture {
        path: path.to_owned(),
        found: found.to_owned(),
        supported: SUPPORTED,
    })
}

/// Linears may be stored as floats or by bitsandbytes; every other method has tensors of its own.
fn check_quantization(path: &Path, config: &Value) -> Result<(), LoadError> {
    match config["quantization_config"]["quant_method"].as_str() {
        None | Some("bitsandbytes") => Ok(()),
        Some(other) => Err(LoadError::config(
            path,
            format!(
                "quantization method `{other}` is not supported; take the 16-bit checkpoint or a bitsandbytes NF4 one"
            ),
        )),
    }
}

/// The longest sequence in which every token attends to all before it. Layers with a sliding window see less than that
/// beyond the window's length; the engine has no windows, so the window bounds the sequence.
fn attended(config: &Config) -> usize {
    let window = config.sliding_window.unwrap_or(usize::MAX);
    config.max_position_embeddings.min(window)
}

fn read_activation(path: &Path, name: &str) -> Result<Activation, LoadError> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(LoadError::config(
            path,
            format!(
                "hidden_act `{other}` is not supported; supported are silu and gelu_pytorch_tanh"
            ),
        )),
    }
}

fn read_rope(path: &Path, config: &Config) -> Result<RopeSpec, LoadError> {
    let rope = config
        .rope_parameters
        .as_ref()
        .or(config.rope_scaling.as_ref());
    let theta = config
        .rope_theta
        .or(rope.and_then(|rope| rope.rope_theta))
        .unwrap_or(10_000.0);
    let scaling = rope.map_or(Ok(RopeScaling::None), |rope| read_scaling(path, rope))?;
    Ok(RopeSpec { theta, scaling })
}

fn read_scaling(path: &Path, rope: &Rope) -> Result<RopeScaling, LoadError> {
    let need = |key: &str, value: Option<f64>| {
        let missing = || {
            LoadError::config(
                path,
                format!("rope scaling lacks `{key}`; take the model's original config.json"),
            )
        };
        value.ok_or_else(missing)
    };
    let rope_type = rope.rope_type.as_deref().or(rope.older_type.as_deref());
    match rope_type.unwrap_or("default") {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear {
            factor: need("factor", rope.factor)?,
        }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: need("factor", rope.factor)?,
            low_freq_factor: need("low_freq_factor", rope.low_freq_factor)?,
            high_freq_factor: need("high_freq_factor", rope.high_freq_factor)?,
            original_context: need(
                "original_max_position_embeddings",
                rope.original_max_position_embeddings,
            )?,
        }),
        other => Err(LoadError::config(
            path,
            format!(
                "rope scaling type `{other}` is not supported; supported are default, linear and llama3"
            ),
        )),
    }
}
