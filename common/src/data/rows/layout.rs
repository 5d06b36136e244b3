//! How the rows of one dataset are read: their kind and the columns that it uses.

use std::path::Path;

use serde_json::Value;

use crate::data::DataError;
use crate::data::source::RawRow;
use crate::recipe::{DatasetSection, RowKind};

/// How the rows of one dataset are read.
#[derive(Debug, Clone)]
pub(in crate::data) struct RowLayout {
    pub(super) kind: RowKind,
    pub(super) text_field: String,
    /// The recipe's `instruction` is the same in all rows: it instructs the assistant, so it becomes the system message.
    pub(super) constant_instruction: bool,
    /// The column where an Alpaca row asks.
    question: &'static str,
    pub(super) user_prefix: String,
    pub(super) system: Option<String>,
    pub(super) speakers: [String; 2],
}

impl RowLayout {
    /// Decides from the first row that is left after drops and renames.
    pub(super) fn new(section: &DatasetSection, first: &RawRow) -> Result<Self, DataError> {
        let path = Path::new(&section.path);
        let present = || first.keys().cloned().collect();
        let text_field = section
            .text_field
            .clone()
            .unwrap_or_else(|| "text".to_owned());
        let kind = section.kind.or_else(|| detect(section, &text_field, first));
        let kind = kind.ok_or_else(|| DataError::UnknownKind {
            path: path.to_owned(),
            present: present(),
        })?;
        let layout = Self {
            kind,
            text_field,
            constant_instruction: section.instruction.is_some(),
            question: question_column(section, first),
            user_prefix: section.user_prefix.clone().unwrap_or_default(),
            system: section.system.clone(),
            speakers: section
                .speakers
                .clone()
                .unwrap_or_else(|| ["Patient", "Doctor"].map(str::to_owned)),
        };
        match layout
            .required()
            .into_iter()
            .find(|column| !first.contains_key(*column))
        {
            None => Ok(layout),
            Some(missing) => Err(DataError::MissingColumn {
                path: path.to_owned(),
                kind: kind_name(kind),
                missing: missing.to_owned(),
                present: present(),
            }),
        }
    }

    /// Columns that a row cannot do without.
    pub(super) fn required(&self) -> Vec<&str> {
        match self.kind {
            RowKind::Text | RowKind::TwoSpeaker => vec![&self.text_field],
            RowKind::PromptCompletion => vec!["prompt", "completion"],
            RowKind::Alpaca => vec![self.question, "output"],
            RowKind::Conversations => vec!["conversations"],
            RowKind::Messages => vec!["messages"],
        }
    }

    /// Columns that decide what a row says.
    pub(super) fn used(&self) -> Vec<&str> {
        match self.kind {
            RowKind::Alpaca => vec!["instruction", "input", "output"],
            _ => self.required(),
        }
    }
}

/// Where an Alpaca row asks: `instruction`, unless that is the same in all rows or there is only `input`.
fn question_column(section: &DatasetSection, row: &RawRow) -> &'static str {
    let has = |column: &str| row.contains_key(column);
    if section.instruction.is_some() || (has("input") && !has("instruction")) {
        "input"
    } else {
        "instruction"
    }
}

/// The kind that a row's columns speak for.
fn detect(section: &DatasetSection, text_field: &str, row: &RawRow) -> Option<RowKind> {
    let has = |column: &str| row.contains_key(column);
    let question = question_column(section, row);
    if section.text_field.is_some() && has(text_field) {
        return Some(RowKind::Text);
    }
    let kinds = [
        (has("messages"), RowKind::Messages),
        (has("conversations"), RowKind::Conversations),
        (
            has("prompt") && has("completion"),
            RowKind::PromptCompletion,
        ),
        (has(question) && has("output"), RowKind::Alpaca),
        (has(text_field), RowKind::Text),
    ];
    let almost_alpaca =
        (has("output") || has("instruction") || has("input")).then_some(RowKind::Alpaca);
    let almost_pairs = (has("prompt") || has("completion")).then_some(RowKind::PromptCompletion);
    let found = kinds
        .into_iter()
        .find_map(|(fits, kind)| fits.then_some(kind));
    // A kind that lacks one column says which: better than a list of all kinds.
    found.or(almost_alpaca).or(almost_pairs)
}

fn kind_name(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Text => "text",
        RowKind::PromptCompletion => "prompt_completion",
        RowKind::Alpaca => "alpaca",
        RowKind::Conversations => "conversations",
        RowKind::Messages => "messages",
        RowKind::TwoSpeaker => "two_speaker",
    }
}

/// Whether a cell says nothing: absent, null, white space or an empty list.
pub(super) fn is_empty(cell: Option<&Value>) -> bool {
    match cell {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => false,
    }
}
