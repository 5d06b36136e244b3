//! Teaches the network the documents of the corpus.

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use tokenizers::Tokenizer;

use crate::Plan;
use crate::config::Schedule;
use crate::corpus::Corpus;
use crate::model::{Llama, Weights, initial_weights, loss};
use crate::rng::Rng;
use crate::tokenizer::encode;

/// Trains from random weights to the end of the plan's schedule. Cost: about 8 FLOP per parameter and token.
///
/// # Errors
///
/// A mistake in a grammar, or a loss that is no longer a number.
pub fn pretrain(
    plan: &Plan,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    log: &dyn Fn(&str),
) -> Result<Weights> {
    let schedule = &plan.schedule;
    let mut rng = Rng::new(plan.seed ^ 0x7072_6574_7261_696E);
    let weights = initial_weights(&plan.model, &mut rng)?;
    let parameters: usize = weights.values().map(|var| var.elem_count()).sum();
    log(&format!(
        "{parameters} parameters, vocabulary {}",
        tokenizer.get_vocab_size(true)
    ));

    let model = Llama::new(&plan.model, &weights, schedule.tokens_per_row)?;
    let mut optimizer = AdamW::new(weights.values().cloned().collect(), optimizer_params())?;
    let mut recent = Vec::new();
    for step in 0..schedule.steps {
        let (inputs, targets) = batch(schedule, corpus, tokenizer, &mut rng)?;
        let loss = loss(&model.logits(&inputs)?, &targets, schedule.label_smoothing)?;
        let mut grads = loss.smoothed.backward()?;
        clip(&weights, &mut grads, schedule.max_grad_norm)?;
        optimizer.set_learning_rate(schedule.learning_rate(step));
        optimizer.step(&grads)?;
        recent.push(loss.likelihood.to_scalar::<f32>()?);
        if (step + 1) % schedule.log_every == 0 || step + 1 == schedule.steps {
            report(step + 1, schedule, &mut recent, log)?;
        }
    }
    Ok(weights)
}

fn optimizer_params() -> ParamsAdamW {
    ParamsAdamW {
        beta2: 0.98,
        weight_decay: 0.1,
        ..ParamsAdamW::default()
    }
}

/// Fills rows with whole documents from their start; what a row's end cuts off is not read.
fn batch(
    schedule: &Schedule,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    rng: &mut Rng,
) -> Result<(Tensor, Tensor)> {
    let (b, t) = (schedule.rows_per_step, schedule.tokens_per_row);
    let (mut inputs, mut targets) = (Vec::with_capacity(b * t), Vec::with_capacity(b * t));
    for _ in 0..b {
        let mut row = Vec::with_capacity(2 * t);
        while row.len() <= t {
            row.extend(encode(tokenizer, &corpus.document(rng)?.render())?);
        }
        inputs.extend_from_slice(&row[..t]);
        targets.extend_from_slice(&row[1..=t]);
    }
    Ok((
        Tensor::from_vec(inputs, (b, t), &Device::Cpu)?,
        Tensor::from_vec(targets, b * t, &Device::Cpu)?,
    ))
}

/// Scales all gradients down where their global norm exceeds the limit.
fn clip(weights: &Weights, grads: &mut GradStore, limit: f64) -> Result<()> {
    let mut square = 0.0;
    for (name, var) in weights {
        let grad = grads
            .get(var)
            .with_context(|| format!("{name} has no gradient"))?;
        square += f64::from(
            grad.sqr()?
                .sum_all()?
                .to_dtype(DType::F32)?
                .to_scalar::<f32>()?,
        );
    }
    let norm = square.sqrt();
    if norm > limit {
        for var in weights.values() {
            if let Some(grad) = grads.remove(var) {
                grads.insert(var, (grad * (limit / norm))?);
            }
        }
    }
    Ok(())
}

fn report(
    step: usize,
    schedule: &Schedule,
    recent: &mut Vec<f32>,
    log: &dyn Fn(&str),
) -> Result<()> {
    let mean = recent.iter().sum::<f32>() / recent.len() as f32;
    anyhow::ensure!(
        mean.is_finite(),
        "loss is {mean} at step {step}; lower the peak learning rate"
    );
    log(&format!("step {step:5}/{}  loss {mean:.4}", schedule.steps));
    recent.clear();
    Ok(())
}
