//! GGUF metadata → [`Spec`].

use weft_common::gguf::GgufFile;

use super::error::LoadError;
use super::file::Scratch;
use super::gguf::{dequantize, find_tensor};
use crate::model::{Activation, RopeScaling, RopeSpec, Spec};

/// The families whose layers the engine computes; Mistral's are `llama` in GGUF.
const SUPPORTED: &[&str] = &["llama"];
/// Divisors of the rotary frequencies, for Llama 3.1 and its like.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Reads the model's shape.
pub(super) fn read_spec(file: &GgufFile) -> Result<Spec, LoadError> {
    let architecture = file.required("general.architecture", file.str("general.architecture")?)?;
    if !SUPPORTED.contains(&architecture) {
        return Err(LoadError::UnsupportedArchitecture {
            path: file.path().to_owned(),
            found: architecture.to_owned(),
            supported: SUPPORTED,
        });
    }
    let hidden = need(file, "llama.embedding_length")?;
    let heads = need(file, "llama.attention.head_count")?;
    let embed = find_tensor(file, "token_embd.weight")?;
    let head_dim = optional(file, "llama.attention.key_length")?.unwrap_or(hidden / heads.max(1));
    check_whole_heads(file, head_dim)?;
    let spec = Spec {
        vocab: embed.dims.first().copied().unwrap_or(0) as usize,
        hidden,
        layers: need(file, "llama.block_count")?,
        heads,
        kv_heads: optional(file, "llama.attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        ffn: need(file, "llama.feed_forward_length")?,
        context: need(file, "llama.context_length")?,
        rms_eps: need_float(file, "llama.attention.layer_norm_rms_epsilon")? as f32,
        rope: RopeSpec {
            theta: file.f64("llama.rope.freq_base")?.unwrap_or(10_000.0),
            scaling: read_scaling(file, head_dim)?,
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: file.tensor("output.weight").is_none(),
    };
    spec.validate()
        .map_err(|e| LoadError::config(file.path(), e.to_string()))?;
    Ok(spec)
}

fn need(file: &GgufFile, key: &str) -> Result<usize, LoadError> {
    Ok(file.required(key, file.u64(key)?)? as usize)
}

fn need_float(file: &GgufFile, key: &str) -> Result<f64, LoadError> {
    Ok(file.required(key, file.f64(key)?)?)
}

fn optional(file: &GgufFile, key: &str) -> Result<Option<usize>, LoadError> {
    Ok(file.u64(key)?.map(|value| value as usize))
}

/// The engine rotates whole heads, and values are as wide as keys.
fn check_whole_heads(file: &GgufFile, head_dim: usize) -> Result<(), LoadError> {
    for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
        if let Some(found) = optional(file, key)?.filter(|&found| found != head_dim) {
            let problem =
                format!("`{key}` is {found}, only the head's width {head_dim} is supported");
            return Err(LoadError::config(file.path(), problem));
        }
    }
    Ok(())
}

fn read_scaling(file: &GgufFile, head_dim: usize) -> Result<RopeScaling, LoadError> {
    if file.tensor(ROPE_FACTORS).is_some() {
        return read_factors(file, head_dim);
    }
    match file.str("llama.rope.scaling.type")? {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: need_float(file, "llama.rope.scaling.factor")?,
        }),
        Some(other) => Err(LoadError::config(
            file.path(),
            format!(
                "rope scaling type `{other}` is not supported; supported are none, linear and {ROPE_FACTORS}"
            ),
        )),
    }
}

fn read_factors(file: &GgufFile, head_dim: usize) -> Result<RopeScaling, LoadError> {
    let info = find_tensor(file, ROPE_FACTORS)?;
    if info.elements() != head_dim as u64 / 2 {
        return Err(LoadError::Shape {
            path: file.path().to_owned(),
            tensor: ROPE_FACTORS.to_owned(),
            expected: vec![head_dim / 2],
            found: info.dims.iter().map(|&dim| dim as usize).collect(),
        });
    }
    let mut factors = vec![0.0; head_dim / 2];
    let mut scratch = Scratch::default();
    let bytes = scratch.bytes(file.bytes(info).len());
    bytes.copy_from_slice(file.bytes(info));
    dequantize(file.path(), info.kind, bytes, &mut factors)?;
    if let Some(bad) = factors
        .iter()
        .find(|factor| !factor.is_finite() || **factor <= 0.0)
    {
        return Err(LoadError::damaged(
            file.path(),
            format!("`{ROPE_FACTORS}` holds {bad}"),
        ));
    }
    Ok(RopeScaling::Factors(factors.into()))
}
