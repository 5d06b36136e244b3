//! A compiled chat template, bound to a tokenizer's special tokens.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::{Environment, Value};

use super::environment::{self, TEMPLATE};
use super::markers;
use super::message::Message;
use super::spans::{self, Layout};
use crate::id::Digest;

/// A tokenizer's named special tokens (`bos_token`, `eos_token`, …), as templates see them.
pub type SpecialTokens = BTreeMap<String, String>;

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What is tokenized.
    pub text: String,
    /// Byte ranges of the assistant's words and the end-of-turn token after each, ascending.
    pub assistant: Vec<Range<usize>>,
}

/// Why a template cannot be used, or refuses a conversation.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The source is no valid Jinja.
    #[error(
        "chat template does not compile: {0}; correct it or choose a built-in one with model.chat_template"
    )]
    Syntax(String),
    /// The plainest conversation is refused.
    #[error(
        "chat template refuses a plain user and assistant exchange: {0}; choose another with model.chat_template"
    )]
    Probe(String),
    /// The template raised an exception or failed on this conversation.
    #[error("chat template refuses the conversation: {0}")]
    Refused(String),
    /// Assistant text could not be told from the rest.
    #[error(
        "assistant text cannot be found in the rendered conversation; add {{% generation %}} markers to the template"
    )]
    Unlocatable,
    /// A message holds a character that is used for marking.
    #[error(
        "a message holds the Unicode noncharacter U+FDD0 or U+FDD1, which is reserved; remove it from the data"
    )]
    ReservedCharacter,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    special_tokens: Vec<(String, Value)>,
    /// How assistant turns lie in the text, for templates that do not mark them.
    layout: Option<Layout>,
    end_of_turn: String,
}

impl ChatTemplate {
    /// Compiles `source` and learns from a probe how a turn ends. `is_special` tells whether a text starts with a special
    /// token, and that token's length.
    ///
    /// # Errors
    /// When the source is no valid Jinja, or a plain exchange cannot be rendered.
    pub fn compile(
        source: &str,
        special_tokens: &SpecialTokens,
        special_at: &dyn Fn(&str) -> Option<usize>,
    ) -> Result<Self, TemplateError> {
        let environment = environment::compile(source)
            .map_err(|error| TemplateError::Syntax(describe(&error)))?;
        let pairs = special_tokens.iter();
        let mut template = Self {
            source: source.to_owned(),
            environment,
            special_tokens: pairs
                .map(|(name, token)| (name.clone(), Value::from(token)))
                .collect(),
            layout: None,
            end_of_turn: String::new(),
        };
        let as_probe = |error| match error {
            TemplateError::Refused(why) => TemplateError::Probe(why),
            other => other,
        };
        let layout = spans::probe(&template, special_at).map_err(as_probe)?;
        template.end_of_turn.clone_from(&layout.end_of_turn);
        template.layout = (!markers::is_marked(source)).then_some(layout);
        Ok(template)
    }

    /// The Jinja source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Identifies the source.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.source.as_bytes())
    }

    /// Whether the template itself marks assistant text with `{% generation %}`.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.layout.is_none()
    }

    /// What ends an assistant's turn: a special token, with the whitespace that the template puts before it. Empty if
    /// there is none.
    #[must_use]
    pub fn end_of_turn(&self) -> &str {
        &self.end_of_turn
    }

    /// Renders a conversation, for example as the prompt of a generation.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let marked = self.render_with(messages, add_generation_prompt, |message| {
            message.content.clone()
        })?;
        Ok(markers::cut(&marked).map_or(marked, |(text, _)| text))
    }

    /// Renders a whole conversation and finds the assistant's text in it.
    ///
    /// # Errors
    /// When the template refuses the conversation, or the assistant's text cannot be told from the rest.
    pub fn render_with_spans(&self, messages: &[Message]) -> Result<Rendered, TemplateError> {
        if messages
            .iter()
            .any(|message| markers::occur_in(&message.content))
        {
            return Err(TemplateError::ReservedCharacter);
        }
        if let Some(layout) = &self.layout {
            return spans::locate(self, layout, messages);
        }
        let marked = self.render_with(messages, false, |message| message.content.clone())?;
        let (text, assistant) = markers::cut(&marked).ok_or(TemplateError::Unlocatable)?;
        Ok(Rendered { text, assistant })
    }

    /// Renders with other contents than the messages' own; markers are left in.
    pub(super) fn render_with(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        content: impl Fn(&Message) -> String,
    ) -> Result<String, TemplateError> {
        let messages = messages
            .iter()
            .map(|message| message.to_value(&content(message)));
        let mut context = vec![
            ("messages".to_owned(), messages.collect::<Value>()),
            (
                "add_generation_prompt".to_owned(),
                Value::from(add_generation_prompt),
            ),
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
        ];
        context.extend(self.special_tokens.iter().cloned());
        let refused = |error: minijinja::Error| TemplateError::Refused(describe(&error));
        let template = self.environment.get_template(TEMPLATE).map_err(refused)?;
        template.render(Value::from_pairs(context)).map_err(refused)
    }
}

/// The engine's own message, without the name that the template has inside.
fn describe(error: &minijinja::Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (template line {line})"),
        None => what,
    }
}
