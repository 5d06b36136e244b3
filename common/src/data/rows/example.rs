//! What one row says.

use serde_json::Value;

use super::RowLayout;
use super::conversation::{self, Keys};
use crate::data::chat::{Message, Role};
use crate::data::source::RawRow;
use crate::recipe::RowKind;

/// What one row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) enum Example {
    /// A finished text.
    Text(String),
    /// A text and how it goes on.
    Completion {
        /// What is given.
        prompt: String,
        /// What is learnt.
        completion: String,
    },
    /// A conversation of which the assistant's turns from `learnt_from` on are learnt.
    Chat {
        /// All turns.
        messages: Vec<Message>,
        /// Index of a message.
        learnt_from: usize,
    },
}

/// Why a row says nothing that can be learnt from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::data) struct Malformed(pub(super) String);

impl RowLayout {
    /// Reads a clean row.
    pub(in crate::data) fn example(&self, row: &RawRow) -> Result<Example, Malformed> {
        match self.kind {
            RowKind::Text => Ok(Example::Text(text(row, &self.text_field)?)),
            RowKind::PromptCompletion => self.pair(row),
            RowKind::Alpaca => self.alpaca(row),
            RowKind::Conversations => self.chat(
                conversation::turns(&row["conversations"], Keys::SHARE_GPT)?,
                0,
            ),
            RowKind::Messages => {
                self.chat(conversation::turns(&row["messages"], Keys::MESSAGES)?, 0)
            }
            RowKind::TwoSpeaker => self.chat(
                conversation::two_speakers(&text(row, &self.text_field)?, &self.speakers)?,
                0,
            ),
        }
    }

    fn pair(&self, row: &RawRow) -> Result<Example, Malformed> {
        let (prompt, completion) = (&row["prompt"], &row["completion"]);
        if prompt.is_string() && completion.is_string() {
            return Ok(Example::Completion {
                prompt: format!("{}{}", self.user_prefix, text(row, "prompt")?),
                completion: text(row, "completion")?,
            });
        }
        let mut messages = conversation::turns(prompt, Keys::MESSAGES)?;
        let given = messages.len();
        messages.extend(conversation::turns(completion, Keys::MESSAGES)?);
        self.chat(messages, given)
    }

    fn alpaca(&self, row: &RawRow) -> Result<Example, Malformed> {
        let output = text(row, "output")?;
        let input = optional_text(row, "input")?;
        let instruction = optional_text(row, "instruction")?;
        let (system, question) = match (instruction, input) {
            (Some(instruction), Some(input)) if self.constant_instruction => {
                (Some(instruction), input)
            }
            (Some(instruction), Some(input)) => (None, format!("{instruction}\n\n{input}")),
            (Some(only), None) | (None, Some(only)) => (None, only),
            (None, None) => {
                return Err(Malformed(
                    "neither `instruction` nor `input` says anything".to_owned(),
                ));
            }
        };
        let system = system.map(Message::system);
        let turns = [Message::user(question), Message::assistant(output)];
        self.chat(system.into_iter().chain(turns).collect(), 0)
    }

    /// Adds the recipe's system message and user prefix.
    fn chat(
        &self,
        mut messages: Vec<Message>,
        mut learnt_from: usize,
    ) -> Result<Example, Malformed> {
        if !messages.iter().skip(learnt_from).any(Message::is_assistant) {
            return Err(Malformed("the assistant says nothing".to_owned()));
        }
        if !self.user_prefix.is_empty() {
            let users = messages
                .iter_mut()
                .filter(|message| message.role == Role::USER);
            users.for_each(|message| message.content.insert_str(0, &self.user_prefix));
        }
        let has_system = messages
            .first()
            .is_some_and(|message| message.role == Role::SYSTEM);
        if let Some(system) = self.system.as_ref().filter(|_| !has_system) {
            messages.insert(0, Message::system(system.as_str()));
            learnt_from += 1;
        }
        Ok(Example::Chat {
            messages,
            learnt_from,
        })
    }
}

fn text(row: &RawRow, column: &str) -> Result<String, Malformed> {
    optional_text(row, column)?.ok_or_else(|| Malformed(format!("`{column}` is empty")))
}

fn optional_text(row: &RawRow, column: &str) -> Result<Option<String>, Malformed> {
    match row.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(scalar.to_string())),
        Some(Value::Array(_) | Value::Object(_)) => Err(Malformed(format!(
            "`{column}` is a list or an object, expected text"
        ))),
    }
}
