//! One example to tokens and loss mask, with everything suspicious noted on the way.

use std::ops::Range;

use super::chat::{ChatTemplate, Message, Rendered, TemplateError};
use super::lint::{DropReason, Suspicion};
use super::rows::{Example, Malformed};
use super::{ChatTokenizer, Encoded, Row, TokenizerError};
use crate::recipe::Recipe;

/// What became of an example.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is trained on.
    Kept {
        row: Row,
        suspicions: Vec<Suspicion>,
    },
    /// It is not.
    Dropped {
        reason: DropReason,
        detail: Option<String>,
    },
}

/// Turns examples into rows. Cheap to make, used from many threads.
#[derive(Debug)]
pub(super) struct RowEncoder<'a> {
    tokenizer: &'a ChatTokenizer,
    max_tokens: usize,
    responses_only: bool,
    bos: Option<u32>,
    pad_is_eos: bool,
}

/// A text and which parts of it are learnt.
struct Marked {
    text: String,
    learnt: Vec<Range<usize>>,
    suspicions: Vec<Suspicion>,
}

impl<'a> RowEncoder<'a> {
    pub(super) fn new(recipe: &Recipe, tokenizer: &'a ChatTokenizer) -> Self {
        let eos = tokenizer.special_token("eos_token");
        Self {
            tokenizer,
            max_tokens: recipe.model.max_seq_length as usize,
            responses_only: recipe.training.train_on_responses_only,
            bos: tokenizer.bos_id(),
            pad_is_eos: eos.is_some() && eos == tokenizer.special_token("pad_token"),
        }
    }

    /// Encodes one example.
    ///
    /// # Errors
    /// When the tokenizer cannot be used for it at all: a conversation without a chat template.
    pub(super) fn encode(
        &self,
        example: Result<Example, Malformed>,
    ) -> Result<Outcome, TokenizerError> {
        let marked = match example {
            Ok(Example::Text(text)) => self.text(String::new(), &text),
            Ok(Example::Completion { prompt, completion }) => self.text(prompt, &completion),
            Ok(Example::Chat {
                messages,
                learnt_from,
            }) => match self.chat(self.tokenizer.template()?, &messages, learnt_from) {
                Ok(marked) => marked,
                Err(error) => return Ok(refused(&error)),
            },
            Err(malformed) => return Ok(dropped(DropReason::Malformed, malformed.to_string())),
        };
        Ok(self.tokens(marked))
    }

    /// `prompt` and what follows it, with EOS at the end unless it is there already.
    fn text(&self, prompt: String, learnt: &str) -> Marked {
        let mut suspicions = Vec::new();
        if has_literal_newline(&prompt) || has_literal_newline(learnt) {
            suspicions.push(Suspicion::LiteralNewline);
        }
        let start = if self.responses_only { prompt.len() } else { 0 };
        let mut text = prompt + learnt;
        match self.tokenizer.special_token("eos_token") {
            Some(eos) if !text.trim_end().ends_with(eos) => text.push_str(eos),
            Some(_) => {}
            None => suspicions.push(Suspicion::MissingEos),
        }
        Marked {
            learnt: std::iter::once(start..text.len()).collect(),
            text,
            suspicions,
        }
    }

    fn chat(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        learnt_from: usize,
    ) -> Result<Marked, TemplateError> {
        let Rendered {
            text,
            mut assistant,
        } = template.render_with_spans(messages)?;
        let mut suspicions = Vec::new();
        let end = template.end_of_turn();
        if end.is_empty()
            || assistant
                .last()
                .is_some_and(|last| !text[last.clone()].ends_with(end))
        {
            suspicions.push(Suspicion::MissingEos);
        }
        if messages
            .iter()
            .any(|message| has_literal_newline(&message.content))
        {
            suspicions.push(Suspicion::LiteralNewline);
        }
        if messages
            .iter()
            .any(|message| self.tokenizer.special_within(&message.content).is_some())
        {
            suspicions.push(Suspicion::LiteralSpecial);
        }
        let learnt_turns = messages[learnt_from..]
            .iter()
            .filter(|message| message.is_assistant())
            .count();
        assistant.drain(..assistant.len().saturating_sub(learnt_turns));
        let learnt = if self.responses_only {
            assistant
        } else {
            std::iter::once(0..text.len()).collect()
        };
        Ok(Marked {
            text,
            learnt,
            suspicions,
        })
    }

    fn tokens(&self, marked: Marked) -> Outcome {
        let Marked {
            text,
            learnt,
            mut suspicions,
        } = marked;
        let encoded = self.tokenizer.encode_document(&text);
        let mut supervised = supervise(&encoded, &learnt);
        let mut tokens = encoded.ids;
        self.note(&tokens, &mut suspicions);
        tokens.truncate(self.max_tokens);
        supervised.truncate(self.max_tokens);
        if !supervised.contains(&true) {
            return Outcome::Dropped {
                reason: DropReason::NothingSupervised,
                detail: None,
            };
        }
        Outcome::Kept {
            row: Row { tokens, supervised },
            suspicions,
        }
    }

    fn note(&self, tokens: &[u32], suspicions: &mut Vec<Suspicion>) {
        if let Some(bos) = self.bos {
            if tokens.windows(2).any(|pair| pair == [bos, bos]) {
                suspicions.push(Suspicion::DoubleBos);
            }
            if self.tokenizer.adds_bos() && tokens.first() != Some(&bos) {
                suspicions.push(Suspicion::MissingBos);
            }
        }
        if self.pad_is_eos {
            suspicions.push(Suspicion::PadIsEos);
        }
        if tokens.len() > self.max_tokens {
            suspicions.push(Suspicion::Truncated);
        }
    }
}

fn dropped(reason: DropReason, detail: String) -> Outcome {
    Outcome::Dropped {
        reason,
        detail: Some(detail),
    }
}

fn refused(error: &TemplateError) -> Outcome {
    let reason = match error {
        TemplateError::Unlocatable => DropReason::Unlocatable,
        TemplateError::Syntax(_)
        | TemplateError::Probe(_)
        | TemplateError::Refused(_)
        | TemplateError::ReservedCharacter => DropReason::Refused,
    };
    dropped(reason, error.to_string())
}

/// Marks the tokens that touch a learnt part of the text. Both lists ascend. A row's first token is never a target.
fn supervise(encoded: &Encoded, learnt: &[Range<usize>]) -> Vec<bool> {
    let offsets = &encoded.offsets;
    let mut mask = vec![false; offsets.len()];
    let mut first = 0;
    for part in learnt {
        while first < offsets.len() && offsets[first].end <= part.start {
            first += 1;
        }
        let within = offsets[first..]
            .iter()
            .take_while(|token| token.start < part.end);
        // Tokens that stand for no text count only between tokens that do.
        let last = within
            .enumerate()
            .filter(|(_, token)| !token.is_empty())
            .last();
        if let Some((len, _)) = last {
            mask[first..=first + len].fill(true);
        }
    }
    if let Some(first) = mask.first_mut() {
        *first = false;
    }
    mask
}

/// `\n` spelled out, as a mistake in data and not as in `\nabla`.
fn has_literal_newline(text: &str) -> bool {
    text.match_indices("\\n").any(|(at, found)| {
        let next = text[at + found.len()..].chars().next();
        next.is_none_or(|c| !c.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(offsets: &[Range<usize>]) -> Encoded {
        Encoded {
            ids: vec![7; offsets.len()],
            offsets: offsets.to_vec(),
        }
    }

    #[test]
    fn tokens_that_touch_a_learnt_part_are_supervised_and_the_first_never_is() {
        let tokens = encoded(&[0..0, 0..3, 3..5, 5..5, 5..9, 9..9, 9..12]);
        let mask = supervise(&tokens, std::slice::from_ref(&(4..9)));
        assert_eq!(mask, [false, false, true, true, true, false, false]);
        assert_eq!(
            supervise(&encoded(&[0..2, 2..4]), std::slice::from_ref(&(0..4))),
            [false, true]
        );
        assert_eq!(supervise(&encoded(&[0..2, 2..4]), &[]), [false, false]);
        let two = supervise(&encoded(&[0..1, 1..2, 2..3, 3..4]), &[1..2, 3..4]);
        assert_eq!(two, [false, true, false, true]);
    }

    #[test]
    fn a_backslash_n_is_told_from_a_command() {
        assert!(has_literal_newline("a\\nB") && has_literal_newline("a\\n"));
        assert!(!has_literal_newline("\\nabla f") && !has_literal_newline("a\nb"));
    }
}
