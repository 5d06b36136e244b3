//! Reducing: members sum, and must agree on the sum.

use weft_common::id::{Digest, WorkerId};
use weft_common::ledger::{self, CommitRecord, SlotRecord};
use weft_common::wire::{self, ReducedReport, RejectReason, SumHealth};

use super::super::action::Action;
use super::super::ballot::BallotVerdict;
use super::super::context::Context;
use super::super::outcome::{Compared, FailReason, LossCause};
use super::super::round::Phase;
use super::super::terms::{JobTerms, OnNonFinite};
use super::{Flow, Run};

impl Run {
    /// A member has the sum.
    pub(super) fn reduced(
        &mut self,
        terms: &JobTerms,
        worker: WorkerId,
        report: &ReducedReport,
        cx: &mut Context<'_>,
    ) -> Flow {
        match self.vote(worker, report, cx) {
            Ok(BallotVerdict::Open) => Flow::Continue(()),
            Ok(BallotVerdict::Unanimous(digest)) => self.agreed(terms, digest, report.health, cx),
            Ok(BallotVerdict::Split(odd)) => self.disagreed(&odd, cx),
            Err(reason) => {
                cx.reject(worker, report.round.clone(), reason);
                Flow::Continue(())
            }
        }
    }

    /// A member votes on this step's sum only after it applied the step before.
    fn vote(
        &mut self,
        worker: WorkerId,
        report: &ReducedReport,
        cx: &Context<'_>,
    ) -> Result<BallotVerdict, RejectReason> {
        self.fence(worker, &report.round, cx)?;
        if &report.round.membership != self.members.membership() {
            return Err(RejectReason::Epoch);
        }
        if self.applying.as_ref().is_some_and(|a| a.awaits(worker)) {
            return Err(RejectReason::Phase);
        }
        let world = self.live_count();
        let round = self.round.as_mut().ok_or(RejectReason::Phase)?;
        let Phase::Reducing { ballot, health } = &mut round.phase else {
            return Err(RejectReason::Phase);
        };
        ballot.cast(worker, report.digest)?;
        *health = report.health;
        let verdict = ballot.verdict(world);
        round.reducing.insert(worker, report.elapsed);
        Ok(verdict)
    }

    /// All members hold the same sum: decides what happens to it and records that.
    fn agreed(
        &mut self,
        terms: &JobTerms,
        sum_digest: Digest,
        health: SumHealth,
        cx: &mut Context<'_>,
    ) -> Flow {
        let step = self.committed;
        let update = match (health, terms.on_non_finite) {
            (SumHealth::Finite, _) => wire::Update::Apply,
            (SumHealth::NonFinite | SumHealth::Overflow, OnNonFinite::Skip) => wire::Update::Skip,
            (SumHealth::NonFinite | SumHealth::Overflow, OnNonFinite::Fail) => {
                return self.fail(FailReason::NonFinite { step, health });
            }
        };
        let Some(record) = self.record_of(update, sum_digest, cx) else {
            return Flow::Continue(());
        };
        cx.act(Action::AppendLedger {
            job: terms.id.clone(),
            record: record.clone(),
        });
        if let Some(round) = &mut self.round {
            round.phase = Phase::Committing {
                record: Box::new(record),
                update,
                since: cx.now,
            };
        }
        self.trouble.forgiven();
        Flow::Continue(())
    }

    fn record_of(
        &mut self,
        update: wire::Update,
        gradient_digest: Digest,
        cx: &Context<'_>,
    ) -> Option<CommitRecord> {
        let step = self.committed;
        let state_digest = self.state?;
        let round = self.round.as_mut()?;
        let accepted = round.book.take_accepted();
        let planned = round.plan.slots.iter().zip(accepted);
        Some(CommitRecord {
            step,
            data_epoch: round.plan.data_epoch,
            term: cx.term,
            epoch: self.members.membership().epoch,
            slots: planned
                .map(|(plan, done)| {
                    let outcome = done.outcome;
                    SlotRecord::new(plan, done.worker, outcome.loss_sum, outcome.digest)
                })
                .collect(),
            gradient_digest,
            state_digest,
            update: match update {
                wire::Update::Apply => ledger::Update::Apply,
                wire::Update::Skip => ledger::Update::Skip,
            },
            learning_rate: self.data.schedule.at(step),
            previous_grad_norm: self.grad_norm,
        })
    }

    /// Members hold different sums: memory is broken somewhere, or one of them lies. Those outside a majority are sent
    /// away and their slots computed again; without a majority everything of this step is, once.
    fn disagreed(&mut self, odd: &[WorkerId], cx: &mut Context<'_>) -> Flow {
        let what = Compared::Sum;
        if odd.len() < self.live().len() {
            for worker in odd {
                let why = format!("it differs from the others in {what}");
                self.expel(*worker, LossCause::Expelled(why), cx);
            }
            return Flow::Continue(());
        }
        if self.trouble.recomputed == Some(self.committed) {
            return self.fail(FailReason::Disagreement {
                what,
                step: self.committed,
                odd: self.members.names(odd),
            });
        }
        self.trouble.recomputed = Some(self.committed);
        for worker in self.live() {
            self.taint(worker);
        }
        Flow::Continue(())
    }
}
