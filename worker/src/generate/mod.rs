//! Text from a model: one token at a time, with a key/value cache, over the same layers that training runs.
//!
//! ```text
//! prompt ─ prefill (the packed forward; keys and values into the cache) ─ logits ─ choose ─ token ─┐
//!                                                        logits ─ decode (one token over the cache)┘
//! ```
//!
//! The adapter stays beside the base, so that what is tried out is what was trained.

mod cache;
mod decode;
mod error;
mod generator;
mod options;
mod sampler;

#[cfg(test)]
mod tests;

pub use error::GenerateError;
pub use generator::{Generated, Generator, StopReason};
pub use options::{GenerateOptions, Sampling};
