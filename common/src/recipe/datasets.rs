//! `datasets:` what to train on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One source of rows and how they become conversations or text. Steps happen in the order of these fields.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub struct DatasetSection {
    /// A csv, json or jsonl file; relative paths start at the recipe's folder.
    pub path: String,
    /// Columns that are removed where they exist.
    pub drop_columns: Vec<String>,
    /// Old column name → new column name.
    pub columns: BTreeMap<String, String>,
    /// A constant `instruction` column, replacing one that the file may have.
    pub instruction: Option<String>,
    /// Drop rows that repeat an earlier row in all columns that the row kind uses (the first stays).
    pub drop_duplicates: bool,
    /// Keep only these ranges of rows, joined in this order; negative ends count from the end.
    pub slices: Vec<SliceRange>,
    /// Keep at most this many rows.
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
    /// How a row is read; found from its columns where unset.
    pub kind: Option<RowKind>,
    /// The column of plain text, for `kind: text`, `two_speaker` (default `text`).
    pub text_field: Option<String>,
    /// Text put before the user's turn, for example `"This is the question: "`.
    pub user_prefix: Option<String>,
    /// A system message for conversations that have none.
    pub system: Option<String>,
    /// For `two_speaker`: label of the user's and of the assistant's lines; default `Patient` and `Doctor`.
    pub speakers: Option<[String; 2]>,
}

/// How a row becomes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A finished text; every token is supervised.
    Text,
    /// `prompt` and `completion`, as text or as message lists.
    PromptCompletion,
    /// `instruction`, optional `input`, `output`.
    Alpaca,
    /// ShareGPT: `conversations: [{from, value}]`.
    Conversations,
    /// `messages: [{role, content}]`.
    Messages,
    /// One text with two labelled speakers: `Patient: … Doctor: …`.
    TwoSpeaker,
}

/// A half-open range of rows as Python writes it: `[start, end]`, either may be null or negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SliceRange(pub Option<i64>, pub Option<i64>);
