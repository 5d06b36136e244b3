//! What survives every process: ledger, term, checkpoints.

use std::collections::BTreeMap;

use weft_common::id::{Step, Term};
use weft_common::ledger::CommitRecord;
use weft_coordinator::engine::{CommittedSum, Continued};

/// What survives every process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The newest term that was taken.
    pub(super) term: Term,
    /// What counts.
    pub(super) ledger: Vec<CommitRecord>,
    /// What counted until it was computed again.
    pub(super) replaced: Vec<CommitRecord>,
    /// Complete checkpoints: the state before a step.
    pub(super) checkpoints: BTreeMap<Step, u64>,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fenced;

impl Disk {
    pub(super) fn next_term(&mut self) -> Term {
        self.term = self.term.next();
        self.term
    }

    /// Makes a record durable, unless a later term has put up its fence.
    pub(super) fn append(&mut self, term: Term, record: CommitRecord) -> Result<(), Fenced> {
        if term < self.term {
            return Err(Fenced);
        }
        self.ledger.push(record);
        Ok(())
    }

    pub(super) fn rewind(&mut self, term: Term, first_step: Step) -> Result<(), Fenced> {
        if term < self.term {
            return Err(Fenced);
        }
        let kept = self
            .ledger
            .partition_point(|record| record.step < first_step);
        self.replaced.extend(self.ledger.drain(kept..));
        Ok(())
    }

    /// What a coordinator that starts now goes on from; nothing where none has written before.
    pub(super) fn continued(&self) -> Option<Continued> {
        (self.term > Term(0)).then(|| Continued {
            committed: Step(self.ledger.len() as u64),
            last: self.ledger.last().map(|record| CommittedSum {
                step: record.step,
                digest: record.gradient_digest,
                update: weft_common::wire::Update::Apply,
            }),
        })
    }

    pub(super) fn newest_checkpoint(&self) -> Option<Step> {
        self.checkpoints.keys().next_back().copied()
    }
}
