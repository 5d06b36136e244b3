//! How good a model is on rows that it was not trained on: loss, and how near its answers come to the wanted ones.
//!
//! ```text
//! rows ─┬─ whoever is free: loss of one row ──▶ integers, added exactly ──▶ mean over tokens
//!       └─ question and wanted answer ── greedy answer ──▶ text ──▶ metrics
//! ```
//!
//! Rows are handed to examiners, each a model on a device with threads of its own. A row is evaluated alone and sums are
//! integers, so that the number of examiners changes no bit.

pub mod metrics;

mod exact_loss;
mod examiner;
mod open;
mod question;
mod survey;

#[cfg(test)]
mod tests;

pub use exact_loss::ExactLoss;
pub use examiner::{EvalError, Examiner, ModelExaminer, Subject};
pub use open::{AdapterConfig, OpenError, open};
pub use question::Question;
pub use survey::{Examiners, Progress};
