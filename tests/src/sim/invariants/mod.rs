//! What must never break, one file each.

mod agreement;
mod durable;
mod exactly_once;
mod liveness;
mod monotone;
mod one_commit;

use std::collections::BTreeMap;

use weft_common::id::{Epoch, Step, Term};
use weft_common::ledger::CommitRecord;
use weft_common::wire::{Command, TakeCheckpoint};
use weft_coordinator::engine::{EpochReport, JobOutcome, RunData, StepReport};

use super::disk::Disk;
use super::trainer::Loaded;

/// What is known of a run so far, as far as the invariants need it.
#[derive(Debug)]
pub(super) struct Facts {
    /// What broke.
    pub(super) violations: Vec<String>,
    /// Memberships that were formed.
    pub(super) epochs: u64,
    /// States of an undisturbed run: before each step, and after the last.
    trajectory: Vec<u64>,
    /// The newest membership that each process was told of.
    told: BTreeMap<usize, (Term, Epoch)>,
    /// The newest that was formed in each term.
    newest: BTreeMap<Term, Epoch>,
}

impl Facts {
    pub(super) fn new(trajectory: Vec<u64>) -> Self {
        Self {
            violations: Vec::new(),
            epochs: 0,
            trajectory,
            told: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    fn demand(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(what());
        }
    }

    /// The state before `step` in an undisturbed run.
    fn state_before(&self, step: Step) -> Option<u64> {
        let index = usize::try_from(step.0).ok()?;
        self.trajectory.get(index).copied()
    }

    pub(super) fn formed(&mut self, term: Term, epoch: &EpochReport) {
        self.epochs += 1;
        monotone::formed(self, term, epoch);
    }

    pub(super) fn heard(&mut self, process: usize, command: &Command) {
        monotone::heard(self, process, command);
    }

    pub(super) fn told(&mut self, step: &StepReport) {
        agreement::told(self, step);
    }

    pub(super) fn recorded(&mut self, record: &CommitRecord, disk: &Disk, data: &RunData) {
        one_commit::recorded(self, record, disk);
        exactly_once::recorded(self, record, data);
        monotone::recorded(self, record, disk);
    }

    pub(super) fn applied(&mut self, process: usize, loaded: &Loaded, disk: &Disk) {
        durable::applied(self, process, loaded, disk);
        agreement::applied(self, process, loaded);
    }

    pub(super) fn snapshot(&mut self, loaded: &Loaded, take: &TakeCheckpoint) {
        agreement::snapshot(self, loaded, take);
    }
}

pub(super) fn end(facts: &mut Facts, outcome: Option<&JobOutcome>, disk: &Disk, data: &RunData) {
    liveness::end(facts, outcome);
    if facts.violations.is_empty() {
        exactly_once::end(facts, disk, data);
        agreement::end(facts, disk, data);
    }
}
