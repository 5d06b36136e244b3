//! From a file's rows to the examples of one dataset.
//!
//! ```text
//! file rows → drop columns → rename → constant instruction → drop rows with empty fields → drop duplicates
//!           → slices, limit → example (text, completion or conversation)
//! ```
//!
//! Slices and limits count what is left of *their own* dataset; datasets are joined afterwards, in the recipe's order. A recipe that
//! cuts a joined table puts each cut at the dataset it falls into.

mod clean;
mod conversation;
mod example;
mod layout;
mod select;

pub(super) use clean::CleanTally;
pub(super) use example::{Example, Malformed};
pub(super) use layout::RowLayout;
pub(super) use select::select;

#[cfg(test)]
mod tests;
