//! A row as a question and its wanted answer.

use std::ops::Range;

use weft_common::data::Row;

/// What a model is asked, and what it should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Tokens that are given.
    pub prompt: Vec<u32>,
    /// Tokens that should follow, up to the end of the turn.
    pub answer: Vec<u32>,
}

impl Question {
    /// The last answer of a row with all that comes before it; `None` where nothing comes before it, as in plain text.
    #[must_use]
    pub fn of(row: &Row) -> Option<Self> {
        let answer = last_run(&row.supervised)?;
        // The first token of a row is never supervised, so one token before the answer is no prompt.
        (answer.start > 1).then(|| Self {
            prompt: row.tokens[..answer.start].to_vec(),
            answer: row.tokens[answer].to_vec(),
        })
    }
}

/// The last run of `true`.
fn last_run(flags: &[bool]) -> Option<Range<usize>> {
    let end = flags.iter().rposition(|&flag| flag)? + 1;
    let start = flags[..end]
        .iter()
        .rposition(|&flag| !flag)
        .map_or(0, |before| before + 1);
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(marks: &str) -> Row {
        Row {
            tokens: (0..marks.len() as u32).collect(),
            supervised: marks.chars().map(|mark| mark == 'x').collect(),
        }
    }

    #[test]
    fn the_last_answer_is_asked_for() {
        let question = Question::of(&row("..xx..xxx.")).unwrap();
        assert_eq!(question.prompt, [0, 1, 2, 3, 4, 5]);
        assert_eq!(question.answer, [6, 7, 8]);
    }

    #[test]
    fn plain_text_asks_nothing() {
        for marks in [".xxxx", "....", ""] {
            assert_eq!(Question::of(&row(marks)), None, "{marks}");
        }
    }
}
