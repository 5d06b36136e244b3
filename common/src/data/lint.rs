//! What is wrong with rows: why one is left out, and what is suspicious in one that stays.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a row is not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// A field that the row kind needs says nothing.
    EmptyField,
    /// The row repeats an earlier one.
    Duplicate,
    /// The row is not of its kind: an unknown role, a list where text should be.
    Malformed,
    /// The chat template does not take the conversation.
    Refused,
    /// Assistant text cannot be told from the rest.
    Unlocatable,
    /// No supervised token is left within `max_seq_length`.
    NothingSupervised,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyField => "a field that is needed is empty",
            Self::Duplicate => "repeats an earlier row",
            Self::Malformed => "cannot be read",
            Self::Refused => "does not fit the chat template",
            Self::Unlocatable => "assistant text cannot be found in the rendered conversation",
            Self::NothingSupervised => "no supervised token within model.max_seq_length",
        })
    }
}

/// What is suspicious in a row that is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// BOS twice in a row.
    DoubleBos,
    /// No BOS although the tokenizer puts one in front of every text.
    MissingBos,
    /// The assistant's text is not followed by an end-of-turn token.
    MissingEos,
    /// The pad token is the end token.
    PadIsEos,
    /// A backslash and an `n` where a line break is meant.
    LiteralNewline,
    /// The data spells a special token, which the tokenizer takes for the real one.
    LiteralSpecial,
    /// The row is longer than `max_seq_length`.
    Truncated,
}

impl Suspicion {
    /// What it means and what to do.
    fn remedy(self) -> &'static str {
        match self {
            Self::DoubleBos => {
                "start with BOS twice; remove the one in the data or in the chat template"
            }
            Self::MissingBos => {
                "do not start with BOS although the tokenizer expects it; add bos_token to the chat template"
            }
            Self::MissingEos => {
                "have no end-of-turn token after the assistant's text, so the model will not learn to stop; choose another model.chat_template"
            }
            Self::PadIsEos => {
                "end with the token that also pads; weft does not pad, so the end is learnt, but tools that mask padding would hide it"
            }
            Self::LiteralNewline => {
                "hold a literal `\\n` where a line break may be meant; correct the data"
            }
            Self::LiteralSpecial => {
                "spell a special token, which is taken for the real one; remove it from the data"
            }
            Self::Truncated => {
                "are longer than model.max_seq_length and lose their end; raise it if memory allows"
            }
        }
    }
}

/// Rows of which the same thing is suspicious.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What.
    pub suspicion: Suspicion,
    /// How many rows.
    pub rows: u64,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows {}", self.rows, self.suspicion.remedy())
    }
}

/// Rows left out for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// How many rows.
    pub rows: u64,
    /// What was wrong with the first of them, where there is more to say.
    pub first: Option<String>,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        match &self.first {
            Some(first) => write!(f, " (the first: {first})"),
            None => Ok(()),
        }
    }
}

/// What preparing a dataset showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PrepareReport {
    /// Rows in the files, as far as they were read.
    pub rows_read: u64,
    /// Rows to train on.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Those that the loss counts.
    pub supervised: u64,
    /// Tokens of the longest row.
    pub longest: u32,
    /// What is suspicious, in a fixed order.
    pub warnings: Vec<Warning>,
    /// What was left out, in a fixed order.
    pub drops: Vec<Dropped>,
}

impl PrepareReport {
    /// What was left out and how many rows of it.
    pub fn dropped(&self) -> impl Iterator<Item = (&Dropped, u64)> {
        self.drops.iter().map(|dropped| (dropped, dropped.rows))
    }

    pub(super) fn suspect(&mut self, suspicion: Suspicion) {
        let at = self
            .warnings
            .binary_search_by_key(&suspicion, |warning| warning.suspicion);
        let at = at.unwrap_or_else(|at| {
            self.warnings.insert(at, Warning { suspicion, rows: 0 });
            at
        });
        self.warnings[at].rows += 1;
    }

    pub(super) fn drop_rows(&mut self, reason: DropReason, rows: u64, first: Option<String>) {
        if rows == 0 {
            return;
        }
        match self
            .drops
            .binary_search_by_key(&reason, |dropped| dropped.reason)
        {
            Ok(at) => self.drops[at].rows += rows,
            Err(at) => self.drops.insert(
                at,
                Dropped {
                    reason,
                    rows,
                    first,
                },
            ),
        }
    }

    /// The drops as a clause, for the error when nothing is left.
    pub(super) fn why(&self) -> String {
        let clauses = self
            .drops
            .iter()
            .map(|dropped| format!("{} dropped: {dropped}", dropped.rows));
        clauses.map(|clause| format!("; {clause}")).collect()
    }
}
