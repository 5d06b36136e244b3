//! From files of rows to a prepared dataset: tokens and loss masks, read by range.
//!
//! ```text
//! source (csv, json) → rows (columns, cleaning, kinds) → chat (template, assistant spans) → tokenize → encode (mask, lint) → prepare
//! ```

pub mod chat;
mod encode;
mod error;
mod lint;
mod prepare;
mod preview;
mod rows;
mod source;
#[cfg(test)]
mod testing;
mod tokenize;

pub use error::DataError;
pub use lint::{DropReason, Dropped, PrepareReport, Suspicion, Warning};
pub use prepare::{PrepareProgress, Prepared, prepare};
pub use preview::{Marking, PreviewRow, PreviewToken, preview};
pub use tokenize::{ChatTokenizer, Encoded, TokenizerError};

use serde::{Deserialize, Serialize};

/// What the plan needs to know of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowStat {
    /// Tokens after truncation.
    pub tokens: u32,
    /// Tokens that the loss counts, as prediction targets: a row's first token is never one.
    pub supervised: u32,
}

/// One prepared row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// `supervised[i]`: token `i` is a target, predicted from tokens `..i`. `supervised[0]` is always false.
    pub supervised: Vec<bool>,
}
