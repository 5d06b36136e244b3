//! Generation from a prompt.

use std::ops::ControlFlow;

use super::decode::Decode;
use super::sampler::Sampler;
use super::{GenerateError, GenerateOptions};
use crate::lora::Adapter;
use crate::model::{Model, Spec};
use crate::ops::{Cpu, Ops};

/// A model ready to continue prompts.
pub struct Generator<'a, O: Ops = Cpu> {
    model: &'a Model<O>,
    adapter: Option<&'a Adapter<O::Params>>,
}

/// What was generated, and why it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens, without the prompt and without the stop token.
    pub tokens: Vec<u32>,
    /// Why no more came.
    pub stop: StopReason,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended its text or turn with this token.
    StopToken(u32),
    /// `max_new_tokens` were generated.
    MaxNewTokens,
    /// The model's context is full.
    Context,
    /// The caller wanted no more.
    Caller,
}

impl<'a, O: Ops> Generator<'a, O> {
    /// A generator over the base model, or over the base with an adapter beside it.
    #[must_use]
    pub fn new(model: &'a Model<O>, adapter: Option<&'a Adapter<O::Params>>) -> Self {
        Self { model, adapter }
    }

    /// Continues `prompt`, and calls `on_token` with each new token as it is chosen; `Break` ends the generation.
    ///
    /// # Errors
    /// The prompt or an option cannot be used, or the model computes NaN.
    pub fn generate(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated, GenerateError> {
        options.check()?;
        self.check_prompt(prompt)?;
        let longest = self
            .model
            .spec()
            .context
            .min(prompt.len() + options.max_new_tokens);
        let mut decode = Decode::new(self.model, self.adapter, longest);
        let mut sampler = Sampler::new(options);
        let mut sequence = prompt.to_vec();
        decode.prefill(prompt);
        let stop = loop {
            if sequence.len() == longest {
                break self.out_of_room(longest - prompt.len(), options);
            }
            let token = self.choose(&decode, &mut sampler, &sequence)?;
            if options.stop_ids.contains(&token) {
                break StopReason::StopToken(token);
            }
            sequence.push(token);
            if on_token(token).is_break() {
                break StopReason::Caller;
            }
            if sequence.len() < longest {
                decode.append(token);
            }
        };
        Ok(Generated {
            tokens: sequence.split_off(prompt.len()),
            stop,
        })
    }

    fn out_of_room(&self, generated: usize, options: &GenerateOptions) -> StopReason {
        match generated == options.max_new_tokens {
            true => StopReason::MaxNewTokens,
            false => StopReason::Context,
        }
    }

    /// The token after `sequence`. What a device did not do leaves numbers that mean nothing, so it is asked too.
    fn choose(
        &self,
        decode: &Decode<'_, O>,
        sampler: &mut Sampler,
        sequence: &[u32],
    ) -> Result<u32, GenerateError> {
        let chosen = match sampler.is_plain() {
            true => decode.likeliest(),
            false => {
                let mut logits = decode.logits();
                let finite = logits.iter().all(|logit| logit.is_finite());
                finite.then(|| sampler.choose(&mut logits, sequence))
            }
        };
        self.model.ops().health()?;
        chosen.ok_or(GenerateError::NotFinite {
            tokens: sequence.len(),
        })
    }

    fn check_prompt(&self, prompt: &[u32]) -> Result<(), GenerateError> {
        let spec = self.model.spec();
        check_length(spec, prompt.len())?;
        match prompt.iter().find(|&&token| token as usize >= spec.vocab) {
            None => Ok(()),
            Some(&token) => Err(GenerateError::UnknownToken {
                token,
                vocab: spec.vocab,
            }),
        }
    }
}

pub(super) fn check_length(spec: &Spec, prompt: usize) -> Result<(), GenerateError> {
    if prompt == 0 {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt > spec.context {
        return Err(GenerateError::PromptTooLong {
            prompt,
            context: spec.context,
        });
    }
    Ok(())
}
