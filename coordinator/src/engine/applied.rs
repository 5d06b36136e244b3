//! The last committed step, until every member has applied it.

use weft_common::id::{Digest, WorkerId};
use weft_common::wire::{AppliedReport, RejectReason};

use super::action::{Notice, StepReport};
use super::ballot::{Ballot, BallotVerdict};
use super::context::Context;
use super::members::Members;
use super::outcome::{Compared, FailReason};

/// A committed step that members are applying.
#[derive(Debug, Clone, PartialEq)]
pub struct Applying {
    /// What people will be told of it.
    report: StepReport,
    /// Digests of the state afterwards.
    ballot: Ballot,
}

/// What follows from a member's report.
#[derive(Debug, Clone, PartialEq)]
pub enum AppliedVerdict {
    /// Members are missing.
    Open(Applying),
    /// All are in the same state.
    Agreed(Digest),
    /// They are not.
    Split(FailReason),
}

impl Applying {
    /// Waits for all members; the report lacks what only they know.
    #[must_use]
    pub fn new(report: StepReport) -> Self {
        Self {
            report,
            ballot: Ballot::default(),
        }
    }

    /// Whether `worker` has applied.
    #[must_use]
    pub fn has(&self, worker: WorkerId) -> bool {
        self.ballot.has(worker)
    }

    /// Who has applied.
    pub fn voters(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.ballot.voters()
    }

    /// Checks that a report is of this step, from a member, and its first.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fence(
        &self,
        worker: WorkerId,
        applied: &AppliedReport,
        members: &Members,
    ) -> Result<(), RejectReason> {
        members.fence(worker, &applied.round.membership)?;
        if applied.round.step != self.report.step {
            Err(RejectReason::Step)
        } else if self.has(worker) {
            Err(RejectReason::Phase)
        } else {
            Ok(())
        }
    }

    /// Takes a fenced report. Once all members reported the same state, people are told of the step.
    #[must_use]
    pub fn take(
        mut self,
        worker: WorkerId,
        applied: &AppliedReport,
        members: &Members,
        cx: &mut Context<'_>,
    ) -> AppliedVerdict {
        if self.ballot.cast(worker, applied.state_digest).is_err() {
            return AppliedVerdict::Open(self);
        }
        match self.ballot.verdict(members.world()) {
            BallotVerdict::Open => AppliedVerdict::Open(self),
            BallotVerdict::Split(odd) => AppliedVerdict::Split(FailReason::Disagreement {
                what: Compared::State,
                step: self.report.step,
                odd: members.names(&odd),
            }),
            BallotVerdict::Unanimous(state_digest) => {
                let heartbeats = members.ids().into_iter().filter_map(|id| cx.fleet.get(id));
                let heartbeats = heartbeats.map(|record| record.heartbeat).collect();
                cx.notify(Notice::StepCommitted(StepReport {
                    grad_norm: applied.grad_norm,
                    learning_rate: applied.learning_rate,
                    state_digest,
                    members: heartbeats,
                    ..self.report
                }));
                AppliedVerdict::Agreed(state_digest)
            }
        }
    }
}
