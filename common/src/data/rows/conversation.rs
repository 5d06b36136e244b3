//! Turns out of lists of messages and out of text with two labelled speakers.

use serde_json::{Map, Value};

use super::Malformed;
use crate::data::chat::{Message, Role};

/// Names of a turn's fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    role: &'static str,
    content: &'static str,
}

impl Keys {
    pub(super) const SHARE_GPT: Self = Self {
        role: "from",
        content: "value",
    };
    pub(super) const MESSAGES: Self = Self {
        role: "role",
        content: "content",
    };
}

/// Names under which data sets know the roles.
const ROLES: &[(&str, &[&str])] = &[
    (Role::SYSTEM, &["system"]),
    (Role::USER, &["user", "human", "input"]),
    (
        Role::ASSISTANT,
        &["assistant", "gpt", "output", "model", "bot"],
    ),
    (
        "tool",
        &["tool", "function", "observation", "function_response"],
    ),
];

/// Reads a list of turns. Both namings of the fields are understood wherever they occur; `keys` is the one to ask for.
pub(super) fn turns(list: &Value, keys: Keys) -> Result<Vec<Message>, Malformed> {
    let parsed;
    let list = match list {
        // A csv cell can only hold the list as text.
        Value::String(text) => {
            parsed = serde_json::from_str(text)
                .map_err(|_| Malformed("the turns are text, not a list".to_owned()))?;
            &parsed
        }
        other => other,
    };
    let list = list
        .as_array()
        .ok_or_else(|| Malformed("the turns are not a list".to_owned()))?;
    list.iter().map(|turn| message(turn, keys)).collect()
}

fn message(turn: &Value, keys: Keys) -> Result<Message, Malformed> {
    let fields = turn
        .as_object()
        .ok_or_else(|| Malformed("a turn is not an object".to_owned()))?;
    let keys = [keys, Keys::MESSAGES, Keys::SHARE_GPT]
        .into_iter()
        .find(|keys| fields.contains_key(keys.role));
    let keys = keys.ok_or_else(|| Malformed("a turn has neither `role` nor `from`".to_owned()))?;
    let role = fields[keys.role].as_str().unwrap_or_default();
    let known = ROLES
        .iter()
        .find(|(_, names)| names.contains(&role.to_lowercase().as_str()));
    let (role, _) = known.ok_or_else(|| Malformed(format!("unknown role `{role}`")))?;
    let extra = fields
        .iter()
        .filter(|(name, _)| *name != keys.role && *name != keys.content);
    Ok(Message {
        role: (*role).to_owned(),
        content: content(fields, keys)?,
        extra: extra
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    })
}

/// Text, or a list of parts whose texts are joined; null where a turn only calls tools.
fn content(fields: &Map<String, Value>, keys: Keys) -> Result<String, Malformed> {
    match fields.get(keys.content) {
        Some(Value::String(text)) => Ok(text.clone()),
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().map(|part| part["text"].as_str());
            let texts: Option<Vec<_>> = texts.collect();
            texts
                .map(|texts| texts.concat())
                .ok_or_else(|| Malformed("a turn has parts that are not text".to_owned()))
        }
        Some(_) => Err(Malformed(format!(
            "`{}` of a turn is not text",
            keys.content
        ))),
    }
}

/// Cuts `Patient: … Doctor: …` at the labels; neighbouring turns of one speaker become one.
pub(super) fn two_speakers(text: &str, speakers: &[String; 2]) -> Result<Vec<Message>, Malformed> {
    let mut labels: Vec<(usize, usize, &str)> = Vec::new();
    for (speaker, role) in speakers.iter().zip([Role::USER, Role::ASSISTANT]) {
        let label = format!("{speaker}:");
        let places = text.match_indices(&label).map(|(at, _)| at);
        let starts_word = |at: &usize| {
            text[..*at]
                .chars()
                .next_back()
                .is_none_or(char::is_whitespace)
        };
        labels.extend(
            places
                .filter(starts_word)
                .map(|at| (at, at + label.len(), role)),
        );
    }
    labels.sort_unstable();
    if labels
        .first()
        .is_none_or(|(at, _, _)| !text[..*at].trim().is_empty())
    {
        return Err(Malformed(format!(
            "the text does not start with `{}:` or `{}:`",
            speakers[0], speakers[1]
        )));
    }
    let ends = labels
        .iter()
        .skip(1)
        .map(|(at, _, _)| *at)
        .chain([text.len()]);
    let mut messages: Vec<Message> = Vec::new();
    for ((_, start, role), end) in labels.iter().zip(ends) {
        let said = text[*start..end].trim();
        match messages.last_mut() {
            Some(last) if last.role == *role => {
                last.content.push('\n');
                last.content.push_str(said);
            }
            _ => messages.push(Message::new(*role, said)),
        }
    }
    Ok(messages)
}
