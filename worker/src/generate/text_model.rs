//! A model with its tokenizer: conversations in, text out. What the command line, the server and evaluation use.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use weft_common::data::chat::Message;
use weft_common::data::{ChatTokenizer, TokenizerError};

use super::{GenerateError, GenerateOptions, Generated, Generator, StopReason, TextStream};
use crate::lora::Adapter;
use crate::model::{Model, Spec};
use crate::ops::Ops;

/// What is to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text as it is; BOS is put in front where the tokenizer does so and the text has none.
    Text(String),
    /// A conversation, which the chat template renders, and whose next turn is the model's.
    Chat(Vec<Message>),
}

/// A model with its tokenizer, ready to write.
pub struct TextModel {
    tokenizer: ChatTokenizer,
    model: Box<dyn Continue>,
}

/// What was written, why it ended, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text, without what ended it.
    pub text: String,
    /// Why it ended.
    pub end: End,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens that were generated, the one that ended the text included.
    pub completion_tokens: usize,
    /// From the prompt to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model ended it, or a stop string came.
    Stop,
    /// `max_new_tokens`, or the model's context, was reached.
    Length,
    /// The caller wanted no more.
    Caller,
}

impl End {
    /// As OpenAI's `finish_reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Caller => "cancelled",
        }
    }
}

impl Completion {
    /// Tokens a second after the first; 0 where there was no second one.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        match self.decode.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.completion_tokens.saturating_sub(1) as f64 / seconds,
        }
    }
}

/// A model on any device.
pub(super) trait Continue: Send + Sync {
    fn spec(&self) -> &Spec;

    fn generate(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated, GenerateError>;
}

/// A model and its adapter on a device.
pub(super) struct Loaded<O: Ops> {
    pub(super) model: Model<O>,
    pub(super) adapter: Option<Adapter<O::Params>>,
}

impl<O: Ops> Continue for Loaded<O> {
    fn spec(&self) -> &Spec {
        self.model.spec()
    }

    fn generate(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated, GenerateError> {
        Generator::new(&self.model, self.adapter.as_ref()).generate(prompt, options, on_token)
    }
}

impl TextModel {
    pub(super) fn new(tokenizer: ChatTokenizer, model: Box<dyn Continue>) -> Self {
        Self { tokenizer, model }
    }

    /// The tokenizer with its chat template.
    #[must_use]
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// The model's dimensions.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        self.model.spec()
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// There is no chat template for a conversation, or it refuses this one.
    pub fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizerError> {
        match prompt {
            Prompt::Text(text) => Ok(self.tokenizer.encode_document(text).ids),
            Prompt::Chat(messages) => {
                let text = self.tokenizer.render(messages, true)?;
                Ok(self.tokenizer.encode_document(&text).ids)
            }
        }
    }

    /// Whether a prompt of so many tokens can be continued.
    ///
    /// # Errors
    /// It is empty, or longer than the model's context.
    pub fn check_length(&self, prompt_tokens: usize) -> Result<(), GenerateError> {
        super::generator::check_length(self.spec(), prompt_tokens)
    }

    /// Continues a prompt until the model ends its text or turn, one of `stops` comes, or what `options` say.
    ///
    /// `on_text` is given the text as it becomes certain; `Break` ends the generation. After each token it is called, with
    /// an empty text where there is nothing to tell yet, so that it may look whether anyone still listens.
    ///
    /// # Errors
    /// The prompt or an option cannot be used, the device fails, or the model computes NaN.
    pub fn generate(
        &self,
        prompt: &[u32],
        (options, stops): (&GenerateOptions, &[String]),
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, GenerateError> {
        let mut options = options.clone();
        options.stop_ids.extend(self.tokenizer.eos_ids());
        let started = Instant::now();
        let mut first = None;
        let mut stream = TextStream::new(&self.tokenizer, stops);
        let mut text = String::new();
        let generated = self.model.generate(prompt, &options, &mut |token| {
            first.get_or_insert_with(Instant::now);
            let fresh = stream.push(token);
            text.push_str(&fresh);
            let listening = on_text(&fresh);
            match stream.is_stopped() {
                true => ControlFlow::Break(()),
                false => listening,
            }
        })?;
        let ended = Instant::now();
        let rest = stream.finish();
        text.push_str(&rest);
        // Whoever broke off is told no more.
        let broken = generated.stop == StopReason::Caller && !stream.is_stopped();
        if !rest.is_empty() && !broken {
            let _ = on_text(&rest);
        }
        let first = first.unwrap_or(ended);
        Ok(Completion {
            text,
            end: end(generated.stop, stream.is_stopped()),
            prompt_tokens: prompt.len(),
            completion_tokens: generated.tokens.len()
                + usize::from(matches!(generated.stop, StopReason::StopToken(_))),
            prefill: first - started,
            decode: ended - first,
        })
    }
}

fn end(stop: StopReason, stop_string: bool) -> End {
    match stop {
        StopReason::StopToken(_) => End::Stop,
        StopReason::MaxNewTokens | StopReason::Context | StopReason::Caller if stop_string => {
            End::Stop
        }
        StopReason::MaxNewTokens | StopReason::Context => End::Length,
        StopReason::Caller => End::Caller,
    }
}
