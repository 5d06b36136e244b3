//! Why nothing can be generated.

use crate::ops::DeviceError;

/// A prompt or options that cannot be used, or a model that computes nonsense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// There is nothing to continue.
    #[error("the prompt has no tokens; a model continues text, so give it at least a BOS token")]
    EmptyPrompt,
    /// The prompt leaves no room.
    #[error("the prompt has {prompt} tokens, the model's context is {context}; shorten the prompt")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// The model's context.
        context: usize,
    },
    /// The tokenizer does not belong to the model.
    #[error(
        "prompt token {token} lies outside the model's vocabulary of {vocab}; the tokenizer belongs to another model"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Vocabulary entries.
        vocab: usize,
    },
    /// An option out of its range.
    #[error("{option} is {value}, it must be {range}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model computed NaN or infinity.
    #[error(
        "the model's logits are not finite after {tokens} tokens; the base model or the adapter is damaged"
    )]
    NotFinite {
        /// Tokens in the sequence so far.
        tokens: usize,
    },
}
