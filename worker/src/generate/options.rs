//! How tokens are chosen and when to stop.

use super::GenerateError;

/// Everything that shapes a generation. The default is greedy, 128 tokens, stopping at nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Stop after this many tokens.
    pub max_new_tokens: usize,
    /// Stop at any of these: the tokenizer's end-of-text and end-of-turn tokens.
    pub stop_ids: Vec<u32>,
    /// Divides the logits of tokens seen before, prompt included; 1 changes nothing.
    pub repetition_penalty: f32,
    /// `None`: always the likeliest token.
    pub sampling: Option<Sampling>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            stop_ids: Vec::new(),
            repetition_penalty: 1.0,
            sampling: None,
        }
    }
}

/// Random choice among the likely tokens. Filters apply in the order of the fields, as in transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; below 1 sharpens, above flattens.
    pub temperature: f32,
    /// Keep this many of the likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest whose probabilities first reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keep those at least this fraction as probable as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// The same seed, prompt and model give the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
        }
    }
}

impl GenerateOptions {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), GenerateError> {
        let option = |option, value: f32, fits: bool, range| match fits {
            true => Ok(()),
            false => Err(GenerateError::Option {
                option,
                value: value.into(),
                range,
            }),
        };
        let above_zero = |value: f32| value > 0.0 && value.is_finite();
        let penalty = self.repetition_penalty;
        option(
            "repetition_penalty",
            penalty,
            above_zero(penalty),
            "above 0",
        )?;
        let Some(sampling) = &self.sampling else {
            return Ok(());
        };
        let Sampling {
            temperature,
            top_p,
            min_p,
            ..
        } = *sampling;
        let range = "above 0; leave sampling out for greedy choice";
        option("temperature", temperature, above_zero(temperature), range)?;
        option(
            "top_p",
            top_p,
            top_p > 0.0 && top_p <= 1.0,
            "above 0 and at most 1",
        )?;
        option(
            "min_p",
            min_p,
            (0.0..=1.0).contains(&min_p),
            "between 0 and 1",
        )
    }
}
