//! Prepared rows as a person reads them: tokens one by one, the supervised ones marked.

use std::ops::Range;

use super::{ChatTokenizer, Prepared};

/// How supervised tokens are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marking {
    /// Green, for terminals.
    Colour,
    /// `⟦…⟧`, which survives a pipe.
    Brackets,
}

/// A token, or a few that only together are a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewToken {
    /// Its text.
    pub text: String,
    /// Whether the loss counts it.
    pub supervised: bool,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewRow {
    /// Number in the prepared dataset.
    pub index: u32,
    /// The row's text, token by token.
    pub tokens: Vec<PreviewToken>,
}

/// The rows of `range`, as far as there are any.
#[must_use]
pub fn preview(
    prepared: &Prepared,
    tokenizer: &ChatTokenizer,
    range: Range<u32>,
) -> Vec<PreviewRow> {
    let rows = u32::try_from(prepared.stats().len()).unwrap_or(u32::MAX);
    let numbers = range.start..range.end.min(rows);
    numbers
        .map(|index| preview_row(prepared, tokenizer, index))
        .collect()
}

fn preview_row(prepared: &Prepared, tokenizer: &ChatTokenizer, index: u32) -> PreviewRow {
    let row = prepared.row(index);
    let mut tokens = Vec::new();
    let mut start = 0;
    while start < row.tokens.len() {
        let end = character_end(tokenizer, &row.tokens, start);
        tokens.push(PreviewToken {
            text: tokenizer.decode(&row.tokens[start..end], false),
            supervised: row.supervised[start],
        });
        start = end;
    }
    PreviewRow { index, tokens }
}

/// Where the shortest run of tokens from `start` on that is whole characters ends; a character has at most four bytes.
fn character_end(tokenizer: &ChatTokenizer, tokens: &[u32], start: usize) -> usize {
    let ends = start + 1..=(start + 4).min(tokens.len());
    let is_whole = |end: &usize| {
        !tokenizer
            .decode(&tokens[start..*end], false)
            .contains('\u{FFFD}')
    };
    ends.into_iter().find(is_whole).unwrap_or(start + 1)
}

impl PreviewRow {
    /// The row as text: tokens parted by `|`, line breaks shown as `⏎` and kept.
    #[must_use]
    pub fn format(&self, marking: Marking) -> String {
        let (open, close) = match marking {
            Marking::Colour => ("\u{1b}[32m", "\u{1b}[0m"),
            Marking::Brackets => ("⟦", "⟧"),
        };
        let runs = self.tokens.chunk_by(|a, b| a.supervised == b.supervised);
        let runs = runs.map(|run| {
            let texts: Vec<_> = run
                .iter()
                .map(|token| token.text.replace('\n', "⏎\n"))
                .collect();
            let text = texts.join("|");
            if run[0].supervised {
                format!("{open}{text}{close}")
            } else {
                text
            }
        });
        runs.collect::<Vec<_>>().join("|")
    }
}
