//! What an audit looks at.

use std::path::PathBuf;

use super::super::read::{Ledger, LedgerPlace};
use crate::checkpoint::Manifest;
use crate::id::{Digest, Step};
use crate::plan::{LrSchedule, StepPlanner};

/// Everything that is known of a run.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What it committed.
    pub ledger: &'a Ledger,
    /// What it should have committed; `None` where recipe or dataset are not there.
    pub planned: Option<Planned<'a>>,
    /// What it said of its steps while it ran, in order; empty where nothing was kept.
    pub logged: &'a [LoggedStep],
    /// The states that it saved, oldest first.
    pub saved: &'a [SavedState],
    /// The adapter that it left; `None` before its end.
    pub adapter: Option<&'a LeftAdapter>,
}

impl<'a> Evidence<'a> {
    /// The ledger alone.
    #[must_use]
    pub const fn of(ledger: &'a Ledger) -> Self {
        Self {
            ledger,
            planned: None,
            logged: &[],
            saved: &[],
            adapter: None,
        }
    }
}

/// What recipe and dataset ask for.
#[derive(Debug, Clone)]
pub struct Planned<'a> {
    /// Rows and slots of every step.
    pub planner: &'a StepPlanner,
    /// Learning rate of every step.
    pub schedule: LrSchedule,
    /// [`Recipe::digest`](crate::recipe::Recipe::digest).
    pub recipe: Digest,
    /// Digest of the prepared dataset.
    pub dataset: Digest,
}

/// A line that a run wrote about a step.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedStep {
    /// Where it stands.
    pub place: LedgerPlace,
    /// Which step.
    pub step: Step,
    /// Mean loss of its supervised tokens.
    pub loss: f64,
    /// Its rows.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their supervised tokens.
    pub supervised_tokens: u64,
}

/// A checkpoint's word on a state.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedState {
    /// Its folder.
    pub folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
}

/// The adapter's weights as a run left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAdapter {
    /// The file, named as in a checkpoint.
    pub path: PathBuf,
    /// Of its content.
    pub sha256: Digest,
}
