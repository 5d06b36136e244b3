//! What survives every process: ledger, term, checkpoints.

use std::collections::BTreeMap;

use weft_common::id::{Step, Term};
use weft_common::ledger::CommitRecord;
use weft_coordinator::engine::{CommittedSum, Continued};

/// What survives every process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The newest term that has put up its fence.
    fence: Term,
    /// The newest term that has read the ledger: what older ones write from then on does not count.
    reader: Term,
    /// What counts.
    pub(super) ledger: Vec<CommitRecord>,
    /// What counted until it was computed again.
    pub(super) replaced: Vec<CommitRecord>,
    /// Complete checkpoints: the state before a step.
    pub(super) checkpoints: BTreeMap<Step, u64>,
}

/// Another coordinator has taken the ledger over, in this term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fenced(pub(super) Term);

impl Disk {
    /// Puts up the fence of the next term.
    pub(super) fn raise_fence(&mut self) -> Term {
        self.fence = self.fence.next();
        self.fence
    }

    /// Fails once a later term has put up its fence.
    pub(super) fn heed_fence(&self, term: Term) -> Result<(), Fenced> {
        if term < self.fence {
            return Err(Fenced(self.fence));
        }
        Ok(())
    }

    /// Whether what a term writes now is part of the ledger.
    pub(super) fn counts(&self, term: Term) -> bool {
        term >= self.reader
    }

    /// Makes a record durable.
    pub(super) fn append(&mut self, term: Term, record: CommitRecord) {
        if self.counts(term) {
            self.ledger.push(record);
        }
    }

    pub(super) fn rewind(&mut self, term: Term, first_step: Step) {
        if !self.counts(term) {
            return;
        }
        let kept = self
            .ledger
            .partition_point(|record| record.step < first_step);
        self.replaced.extend(self.ledger.drain(kept..));
    }

    /// What the coordinator of `term` goes on from, having put up its fence; nothing where none has written before.
    pub(super) fn take_over(&mut self, term: Term) -> Result<Option<Continued>, Fenced> {
        self.heed_fence(term)?;
        self.reader = term;
        Ok((term > Term(1)).then(|| Continued {
            committed: Step(self.ledger.len() as u64),
            last: self.ledger.last().map(|record| CommittedSum {
                step: record.step,
                digest: record.gradient_digest,
                update: weft_common::wire::Update::Apply,
            }),
        }))
    }

    pub(super) fn newest_checkpoint(&self) -> Option<Step> {
        self.checkpoints.keys().next_back().copied()
    }
}
