//! Text from a model: one token at a time, with a key/value cache, over the same layers that training runs.
//!
//! ```text
//! prompt ─ prefill (the packed forward; keys and values into the cache) ─ logits ─ choose ─ token ─┐
//!                                                        logits ─ decode (one token over the cache)┘
//! ```
//!
//! The adapter stays beside the base, so that what is tried out is what was trained. [`Generator`] knows tokens alone, over
//! any backend; [`TextModel`] is a model from its files with a tokenizer, on whatever device, and knows text.

mod adapter;
mod cache;
mod decode;
mod error;
mod generator;
mod open;
mod options;
mod sampler;
mod text;
mod text_model;

#[cfg(test)]
mod tests;

pub use error::GenerateError;
pub use generator::{Generated, Generator, StopReason};
pub use open::{OpenError, OpenOptions, Weights};
pub use options::{GenerateOptions, Sampling};
pub use text::TextStream;
pub use text_model::{Completion, End, Prompt, TextModel};
