//! How near generated texts come to their references, by the measures of the field.
//!
//! Each file computes what one Python package computes, to the last digits: `rouge-score`, `sacrebleu`, NLTK and SQuAD's script.
//! `tests/fixtures/golden/metrics` holds their values for texts of many kinds.

mod bleu;
mod meteor;
mod ngrams;
mod porter;
mod rouge;
mod scores;
mod squad;
mod text;

#[cfg(test)]
mod tests;

pub use bleu::{CorpusBleu, sentence_bleu};
pub use meteor::meteor;
pub use rouge::{Rouge, Stemming, rouge};
pub use scores::{Scores, Tally};
pub use squad::{exact_match, token_f1};
