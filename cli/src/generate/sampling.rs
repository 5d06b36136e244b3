//! How tokens are chosen and where a text ends.

use weft_worker::generate::{GenerateOptions, Sampling};

/// Arguments that shape a text.
#[derive(Debug, clap::Args)]
pub(crate) struct SamplingArgs {
    /// Stops after this many tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
    /// Samples; without it and the three below the likeliest token is always taken. 0 means that too
    #[arg(long)]
    temperature: Option<f32>,
    /// Samples among this many of the likeliest tokens
    #[arg(long)]
    top_k: Option<usize>,
    /// Samples among the likeliest tokens that together reach this probability
    #[arg(long)]
    top_p: Option<f32>,
    /// Samples among the tokens at least this fraction as probable as the likeliest
    #[arg(long)]
    min_p: Option<f32>,
    /// Makes tokens that were there before less likely
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the sampling
    #[arg(long, default_value_t = 3407)]
    seed: u64,
    /// Ends before this text comes; may be given several times
    #[arg(long = "stop", value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingArgs {
    /// As the engine takes them; the model's own ends are added there.
    pub(crate) fn options(&self) -> GenerateOptions {
        let narrowed = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let greedy = match self.temperature {
            Some(temperature) => temperature == 0.0,
            None => !narrowed,
        };
        GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            stop_ids: Vec::new(),
            repetition_penalty: self.repetition_penalty,
            sampling: (!greedy).then(|| Sampling {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(0),
                top_p: self.top_p.unwrap_or(1.0),
                min_p: self.min_p.unwrap_or(0.0),
                seed: self.seed,
            }),
        }
    }

    /// Texts that end an answer.
    pub(crate) fn stops(&self) -> &[String] {
        &self.stop
    }
}
