//! The last committed step, until every member has applied it.

use std::collections::BTreeSet;

use weft_common::id::{Digest, WorkerId};
use weft_common::wire::{AppliedReport, RejectReason};

use super::action::StepReport;
use super::ballot::{Ballot, BallotVerdict};

/// A committed step that members are applying.
#[derive(Debug, Clone, PartialEq)]
pub struct Applying {
    /// What people will be told of it.
    pub report: StepReport,
    /// Members that have not said yet that they did.
    awaited: BTreeSet<WorkerId>,
    /// Digests of the state afterwards.
    ballot: Ballot,
}

impl Applying {
    /// Waits for these members; the report lacks what only they know.
    #[must_use]
    pub fn new(report: StepReport, members: &[WorkerId]) -> Self {
        Self {
            report,
            awaited: members.iter().copied().collect(),
            ballot: Ballot::default(),
        }
    }

    /// Whether a worker has still to apply.
    #[must_use]
    pub fn awaits(&self, worker: WorkerId) -> bool {
        self.awaited.contains(&worker)
    }

    /// Waits no longer for a worker that is gone.
    pub fn forget(&mut self, worker: WorkerId) {
        self.awaited.remove(&worker);
        self.ballot.withdraw(worker);
    }

    /// Takes a member's report.
    ///
    /// # Errors
    /// It is of another step, or nobody waits for it.
    pub fn take(&mut self, worker: WorkerId, applied: &AppliedReport) -> Result<(), RejectReason> {
        if applied.round.step != self.report.step {
            return Err(RejectReason::Step);
        }
        if !self.awaited.remove(&worker) {
            return Err(RejectReason::Phase);
        }
        self.report.grad_norm = applied.grad_norm;
        self.report.learning_rate = applied.learning_rate;
        self.ballot.cast(worker, applied.state_digest)
    }

    /// What the members' states are, once all of those that are left have applied and there is one.
    #[must_use]
    pub(super) fn verdict(&self) -> BallotVerdict {
        if !self.awaited.is_empty() {
            return BallotVerdict::Open;
        }
        match self.ballot.voters().count() {
            0 => BallotVerdict::Open,
            voters => self.ballot.verdict(voters),
        }
    }

    /// What people are told, now that the state is known.
    #[must_use]
    pub fn into_report(self, state_digest: Digest) -> StepReport {
        StepReport {
            state_digest,
            ..self.report
        }
    }
}
