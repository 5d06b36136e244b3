//! A model's tokenizer together with its chat template, from a Hugging Face folder or a GGUF file.
//!
//! Both kinds of source are read into [`Parts`], the content of a `tokenizer.json` and what stands beside it, so that
//! there is one way to build a tokenizer and an adapter folder gets its files whatever the base model was.

mod byte_pairs;
mod chat_tokenizer;
mod error;
mod from_folder;
mod from_gguf;
mod parts;
mod pieces;
mod save;
mod sentencepiece;

pub use chat_tokenizer::{ChatTokenizer, Encoded};
pub use error::TokenizerError;
use parts::Parts;

#[cfg(test)]
mod tests;
