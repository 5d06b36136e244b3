//! The network: a Llama decoder over candle's plain operations, so that autograd gives every gradient.
//!
//! Shape suffixes: b rows, t tokens, c residual width, k key-value heads, g query heads of a group, d head width, v vocabulary.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor, Var};

use crate::config::ModelConfig;
use crate::rng::Rng;

/// Trainable tensors by their Hugging Face name, in sorted order.
pub type Weights = BTreeMap<String, Var>;

/// Draws the starting weights: normal, scaled by the width of the input; branches that write to the residual stream
/// start smaller by the square root of their number.
///
/// # Errors
///
/// Only if candle cannot allocate.
pub fn initial_weights(config: &ModelConfig, rng: &mut Rng) -> Result<Weights> {
    let mut weights = Weights::new();
    let branches = (2 * config.num_hidden_layers) as f64;
    for (name, shape) in shapes(config) {
        let scale = match shape[..] {
            [_] => None,
            _ if name.contains("embed") => Some(config.initializer_range),
            _ if name.contains("o_proj") || name.contains("down_proj") => {
                Some((shape[1] as f64 * branches).powf(-0.5))
            }
            _ => Some((shape[1] as f64).powf(-0.5)),
        };
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = match scale {
            None => vec![1.0; count],
            Some(scale) => (0..count).map(|_| (rng.normal() * scale) as f32).collect(),
        };
        weights.insert(name, Var::from_vec(values, shape, &Device::Cpu)?);
    }
    Ok(weights)
}

/// Names and shapes of all tensors; the head is tied to the embeddings.
fn shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let q = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let mut shapes = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![config.vocab_size, c],
        ),
        ("model.norm.weight".to_owned(), vec![c]),
    ];
    for layer in 0..config.num_hidden_layers {
        let parts = [
            ("input_layernorm", vec![c]),
            ("self_attn.q_proj", vec![q, c]),
            ("self_attn.k_proj", vec![kv, c]),
            ("self_attn.v_proj", vec![kv, c]),
            ("self_attn.o_proj", vec![c, q]),
            ("post_attention_layernorm", vec![c]),
            ("mlp.gate_proj", vec![f, c]),
            ("mlp.up_proj", vec![f, c]),
            ("mlp.down_proj", vec![c, f]),
        ];
        shapes.extend(
            parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)),
        );
    }
    shapes
}

/// A network ready to read sequences of up to a fixed length.
pub struct Llama<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    cos_td: Tensor,
    sin_td: Tensor,
    mask_tt: Tensor,
}

impl<'a> Llama<'a> {
    /// Prepares the rotary angles and the causal mask for rows of `tokens`.
    ///
    /// # Errors
    ///
    /// Only if candle cannot allocate.
    pub fn new(config: &'a ModelConfig, weights: &'a Weights, tokens: usize) -> Result<Self> {
        let half = config.head_dim / 2;
        let angle = |i: usize| {
            let (t, j) = (i / half, i % half);
            t as f64 * config.rope_theta.powf(-(j as f64) / half as f64)
        };
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..tokens * half).map(|i| f(angle(i)) as f32).collect();
            Tensor::from_vec(values, (tokens, half), &Device::Cpu)
        };
        let mask: Vec<f32> = (0..tokens * tokens)
            .map(|i| if i % tokens > i / tokens { -1e9 } else { 0.0 })
            .collect();
        Ok(Self {
            config,
            weights,
            cos_td: table(f64::cos)?,
            sin_td: table(f64::sin)?,
            mask_tt: Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)?,
        })
    }

    /// Scores of the next token at each place. Shapes: `ids_bt` → (b·t) × v.
    ///
    /// # Errors
    ///
    /// An id outside the vocabulary, or rows longer than the prepared length.
    pub fn logits(&self, ids_bt: &Tensor) -> Result<Tensor> {
        let (b, t) = ids_bt.dims2()?;
        let embed_vc = self.weight("model.embed_tokens")?;
        let mut x_nc = embed_vc.index_select(&ids_bt.flatten_all()?, 0)?;
        for layer in 0..self.config.num_hidden_layers {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            let normed = self.norm(&x_nc, &at("input_layernorm"))?;
            x_nc = (&x_nc + self.attention(&normed, (b, t), &at("self_attn"))?)?;
            let normed = self.norm(&x_nc, &at("post_attention_layernorm"))?;
            x_nc = (&x_nc + self.feed_forward(&normed, &at("mlp"))?)?;
        }
        Ok(self.norm(&x_nc, "model.norm")?.matmul(&embed_vc.t()?)?)
    }

    fn attention(&self, x_nc: &Tensor, (b, t): (usize, usize), at: &str) -> Result<Tensor> {
        let (k, d) = (self.config.num_key_value_heads, self.config.head_dim);
        let g = self.config.num_attention_heads / k;
        let heads = |part: &str, count: usize| -> Result<Tensor> {
            let x = self.linear(x_nc, &format!("{at}.{part}"))?;
            Ok(x.reshape((b, t, count, d))?.transpose(1, 2)?.contiguous()?)
        };
        // The queries of a group are laid one after another, so that they share their keys without a copy of these.
        let q = self
            .rotate(&heads("q_proj", k * g)?)?
            .reshape((b, k, g * t, d))?;
        let keys = self.rotate(&heads("k_proj", k)?)?;
        let scores = (q.matmul(&keys.t()?)? * (d as f64).powf(-0.5))?.reshape((b, k * g, t, t))?;
        let scores = scores.broadcast_add(&self.mask_tt.narrow(0, 0, t)?.narrow(1, 0, t)?)?;
        let shares = candle_nn::ops::softmax(&scores, D::Minus1)?.reshape((b, k, g * t, t))?;
        let mixed = shares
            .matmul(&heads("v_proj", k)?)?
            .reshape((b, k * g, t, d))?;
        let mixed = mixed.transpose(1, 2)?.reshape((b * t, k * g * d))?;
        self.linear(&mixed, &format!("{at}.o_proj"))
    }

    fn feed_forward(&self, x_nc: &Tensor, at: &str) -> Result<Tensor> {
        let gate = self.linear(x_nc, &format!("{at}.gate_proj"))?.silu()?;
        let up = self.linear(x_nc, &format!("{at}.up_proj"))?;
        self.linear(&(gate * up)?, &format!("{at}.down_proj"))
    }

    /// Turns the halves of each head against one another, as Hugging Face's Llama does.
    fn rotate(&self, x_bhtd: &Tensor) -> Result<Tensor> {
        let (_, _, t, d) = x_bhtd.dims4()?;
        let (cos, sin) = (self.cos_td.narrow(0, 0, t)?, self.sin_td.narrow(0, 0, t)?);
        let first = x_bhtd.narrow(D::Minus1, 0, d / 2)?;
        let second = x_bhtd.narrow(D::Minus1, d / 2, d / 2)?;
        let turned_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let turned_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        Ok(Tensor::cat(&[turned_first, turned_second], D::Minus1)?)
    }

    fn norm(&self, x_nc: &Tensor, at: &str) -> Result<Tensor> {
        let mean = x_nc.sqr()?.mean_keepdim(D::Minus1)?;
        let inverse = (mean + self.config.rms_norm_eps)?.sqrt()?.recip()?;
        Ok(x_nc
            .broadcast_mul(&inverse)?
            .broadcast_mul(self.weight(at)?)?)
    }

    fn linear(&self, x_ni: &Tensor, at: &str) -> Result<Tensor> {
        Ok(x_ni.matmul(&self.weight(at)?.t()?)?)
    }

    fn weight(&self, at: &str) -> Result<&Var> {
        let name = format!("{at}.weight");
        self.weights
            .get(&name)
            .with_context(|| format!("weights lack {name}"))
    }
}

/// Loss of a prediction in nats per token.
pub struct Loss {
    /// Mean negative log-likelihood of the targets.
    pub likelihood: Tensor,
    /// What training lowers: a share of each target is spread evenly over the vocabulary, so that the model stays ready
    /// for words that its corpus lacks. Source: label smoothing (1512.00567) §7.
    pub smoothed: Tensor,
}

/// Computes both losses; `smoothing` is the share that is spread.
///
/// # Errors
///
/// A target outside the vocabulary.
pub fn loss(logits_nv: &Tensor, targets_n: &Tensor, smoothing: f64) -> Result<Loss> {
    let log_shares = candle_nn::ops::log_softmax(&logits_nv.to_dtype(DType::F32)?, D::Minus1)?;
    let likelihood = candle_nn::loss::nll(&log_shares, targets_n)?;
    let even = log_shares.mean_all()?.neg()?;
    let smoothed = ((&likelihood * (1.0 - smoothing))? + (even * smoothing)?)?;
    Ok(Loss {
        likelihood,
        smoothed,
    })
}
