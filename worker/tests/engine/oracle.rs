//! The same model over candle's plain ops in f64, differentiated by candle: no packing, no tiles, no hand-written
//! backward.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use weft_common::data::Row;
use weft_worker::lora::Adapter;
use weft_worker::model::{
    Activation, FrozenLinear, LinearWeights, Projection, RopeScaling, RopeSpec, Spec,
};

use crate::models::{Case, dense};

/// A matrix of f64.
pub(crate) fn matrix(values: &[f32], rows: usize, cols: usize) -> Result<Tensor> {
    Tensor::from_slice(values, (rows, cols), &Device::Cpu)?.to_dtype(DType::F64)
}

/// Numbers of a tensor, as f32.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}

/// Sum of token losses, and the gradient of `scale · sum` in the adapter's layout.
pub(crate) fn loss_and_gradient(case: &Case) -> Result<(f64, Vec<f32>)> {
    let adapter = &case.adapter;
    let variables = adapter.layout().tensors().iter().map(|tensor| {
        Var::from_tensor(&matrix(
            &adapter.values()[tensor.range()],
            tensor.rows,
            tensor.cols,
        )?)
    });
    let variables = variables.collect::<Result<Vec<Var>>>()?;
    let oracle = Oracle {
        case,
        variables: &variables,
    };
    let mut sum = Tensor::zeros((), DType::F64, &Device::Cpu)?;
    for row in case
        .rows
        .iter()
        .filter(|row| row.supervised.iter().any(|&s| s))
    {
        sum = (sum + oracle.row_loss(row)?)?;
    }
    let grads = (&sum * f64::from(case.scale()))?.backward()?;
    let mut flat = Vec::new();
    for variable in &variables {
        flat.extend(values(
            grads
                .get(variable)
                .expect("the loss depends on every matrix"),
        )?);
    }
    Ok((sum.to_scalar()?, flat))
}

struct Oracle<'a> {
    case: &'a Case,
    variables: &'a [Var],
}

impl Oracle<'_> {
    fn row_loss(&self, row: &Row) -> Result<Tensor> {
        let Spec {
            vocab,
            hidden,
            layers,
            embed_scale,
            ..
        } = self.case.spec;
        let weights = &self.case.weights;
        let embed = matrix(
            &dense(&FrozenLinear::Dense(weights.embed.clone())),
            vocab,
            hidden,
        )?;
        let ids = Tensor::new(row.tokens.as_slice(), &Device::Cpu)?;
        let mut x = (embed.index_select(&ids, 0)? * f64::from(embed_scale))?;
        for layer in 0..layers {
            x = self.layer(layer, &x)?;
        }
        let x = self.norm(&x, &weights.final_norm)?;
        let head = match &weights.head {
            Some(head) => matrix(&dense(&FrozenLinear::Dense(head.clone())), vocab, hidden)?,
            None => embed,
        };
        let logits = x.matmul(&head.t()?)?;
        let log_p = logits.broadcast_sub(&logits.exp()?.sum_keepdim(1)?.log()?)?;
        let mut chosen = vec![0.0_f32; row.tokens.len() * vocab];
        for i in (1..row.tokens.len()).filter(|&i| row.supervised[i]) {
            chosen[(i - 1) * vocab + row.tokens[i] as usize] = -1.0;
        }
        (log_p * matrix(&chosen, row.tokens.len(), vocab)?)?.sum_all()
    }

    fn layer(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let weights = &self.case.weights.layers[index];
        let spec = &self.case.spec;
        let linear = |x: &Tensor, projection: Projection| self.linear(index, projection, x);
        let normed = self.norm(x, &weights.attn_norm)?;
        let q = rope(
            &linear(&normed, Projection::Q)?,
            spec.heads,
            spec.head_dim,
            &spec.rope,
        )?;
        let k = rope(
            &linear(&normed, Projection::K)?,
            spec.kv_heads,
            spec.head_dim,
            &spec.rope,
        )?;
        let v = linear(&normed, Projection::V)?;
        let attended = attention(&q, &k, &v, (spec.heads, spec.kv_heads, spec.head_dim))?;
        let x = (x + linear(&attended, Projection::O)?)?;
        let normed = self.norm(&x, &weights.mlp_norm)?;
        let (gate, up) = (
            linear(&normed, Projection::Gate)?,
            linear(&normed, Projection::Up)?,
        );
        x + linear(&(activate(&gate, spec.activation)? * up)?, Projection::Down)?
    }

    fn norm(&self, x: &Tensor, weight: &[f32]) -> Result<Tensor> {
        let weight: Vec<f32> = weight
            .iter()
            .map(|w| w + self.case.spec.norm_offset)
            .collect();
        norm(x, &weight, self.case.spec.rms_eps)
    }

    fn linear(&self, layer: usize, projection: Projection, x: &Tensor) -> Result<Tensor> {
        let LinearWeights { weight, bias } = self.case.weights.layers[layer].linear(projection);
        let mut y = x.matmul(&matrix(&dense(weight), weight.rows(), weight.cols())?.t()?)?;
        if let Some(bias) = bias {
            y = y.broadcast_add(&matrix(bias, 1, bias.len())?)?;
        }
        let name = format!(
            "base_model.model.model.layers.{layer}.{}",
            projection.module()
        );
        let adapter: &Adapter = &self.case.adapter;
        let variable = |kind: &str| {
            let name = format!("{name}.{kind}.weight");
            let position = adapter
                .layout()
                .tensors()
                .iter()
                .position(|tensor| tensor.name == name);
            position.map(|position| self.variables[position].as_tensor())
        };
        let (Some(a), Some(b)) = (variable("lora_A"), variable("lora_B")) else {
            return Ok(y);
        };
        let low = x.matmul(&a.t()?)?.matmul(&b.t()?)?;
        y + (low * f64::from(adapter.scale()))?
    }
}

pub(crate) fn norm(x: &Tensor, weight: &[f32], eps: f32) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let x = x.broadcast_div(&(mean_square + f64::from(eps))?.sqrt()?)?;
    x.broadcast_mul(&matrix(weight, 1, weight.len())?)
}

pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => x / (x.neg()?.exp()? + 1.0)?,
        Activation::GeluTanh => {
            let inner = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * (inner.tanh()? + 1.0)?)? * 0.5
        }
    }
}

/// Frequencies as transformers branches on wavelengths.
fn frequency(rope: &RopeSpec, pair: usize, head_dim: usize) -> f64 {
    let plain = rope.theta.powf(-2.0 * pair as f64 / head_dim as f64);
    match rope.scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear { factor } => plain / factor,
        RopeScaling::Factors(ref factors) => plain / f64::from(factors[pair]),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => {
            let wavelength = std::f64::consts::TAU / plain;
            if wavelength < original_context / high_freq_factor {
                return plain;
            }
            if wavelength > original_context / low_freq_factor {
                return plain / factor;
            }
            let smooth = (original_context / wavelength - low_freq_factor)
                / (high_freq_factor - low_freq_factor);
            (1.0 - smooth) * plain / factor + smooth * plain
        }
    }
}

pub(crate) fn rope(x: &Tensor, heads: usize, head_dim: usize, rope: &RopeSpec) -> Result<Tensor> {
    let (tokens, half) = (x.dim(0)?, head_dim / 2);
    let angle = |i: usize| (i / half) as f64 * frequency(rope, i % half, head_dim);
    let angles: Vec<f64> = (0..tokens * half).map(angle).collect();
    let angles = Tensor::from_vec(angles, (tokens, half), &Device::Cpu)?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let mut turned = Vec::new();
    for head in 0..heads {
        let low = x.narrow(1, head * head_dim, half)?;
        let high = x.narrow(1, head * head_dim + half, half)?;
        turned.push(((&low * &cos)? - (&high * &sin)?)?);
        turned.push(((&high * &cos)? + (&low * &sin)?)?);
    }
    Tensor::cat(&turned, 1)
}

pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    (heads, kv_heads, head_dim): (usize, usize, usize),
) -> Result<Tensor> {
    let tokens = q.dim(0)?;
    let hidden = |i: usize| if i % tokens > i / tokens { -1e30 } else { 0.0 };
    let mask = Tensor::from_vec(
        (0..tokens * tokens).map(hidden).collect::<Vec<f64>>(),
        (tokens, tokens),
        &Device::Cpu,
    )?;
    let mut outs = Vec::new();
    for head in 0..heads {
        let kv = head / (heads / kv_heads);
        let part = |x: &Tensor, head: usize| x.narrow(1, head * head_dim, head_dim)?.contiguous();
        let scores = (part(q, head)?.matmul(&part(k, kv)?.t()?)? / (head_dim as f64).sqrt())?;
        let weights = (scores + &mask)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(1)?)?;
        outs.push(weights.matmul(&part(v, kv)?)?);
    }
    Tensor::cat(&outs, 1)
}
