//! Reducing: members sum, and the sum must be that of the micro-batches.

use weft_common::id::{Digest, WorkerId};
use weft_common::ledger::{self, CommitRecord, SlotRecord};
use weft_common::sum_digest::SumDigest;
use weft_common::wire::{self, ReducedReport, RejectReason, SumHealth};

use super::super::action::Action;
use super::super::context::Context;
use super::super::outcome::{Compared, FailReason, LossCause};
use super::super::round::Phase;
use super::super::sums::{Mistake, SumsVerdict};
use super::super::terms::{JobTerms, OnNonFinite};
use super::{Flow, Run};

/// Steps in a row that may pass without an update because members scale the loss. A scale comes from its highest to its
/// lowest in 24; what does not fit then is no matter of the scale.
const MOST_SKIPPED: u32 = 32;

impl Run {
    /// A member has the sum.
    pub(super) fn reduced(
        &mut self,
        terms: &JobTerms,
        worker: WorkerId,
        report: &ReducedReport,
        cx: &mut Context<'_>,
    ) -> Flow {
        match self.take_sum(worker, report, cx) {
            Ok(None) => Flow::Continue(()),
            Ok(Some(SumsVerdict::Proven(sum))) => self.proven(terms, sum, cx),
            Ok(Some(SumsVerdict::Wrong(wrong))) => self.summed_wrongly(&wrong, cx),
            Err(reason) => {
                cx.reject(worker, report.round.clone(), reason);
                Flow::Continue(())
            }
        }
    }

    /// A member tells of this step's sum only after it applied the step before. Once all have, it is known who is right.
    fn take_sum(
        &mut self,
        worker: WorkerId,
        report: &ReducedReport,
        cx: &Context<'_>,
    ) -> Result<Option<SumsVerdict>, RejectReason> {
        self.fence(worker, &report.round, cx)?;
        if &report.round.membership != self.members.membership() {
            return Err(RejectReason::Epoch);
        }
        if self.applying.as_ref().is_some_and(|a| a.awaits(worker)) {
            return Err(RejectReason::Phase);
        }
        let world = self.live_count();
        let round = self.round.as_mut().ok_or(RejectReason::Phase)?;
        let Phase::Reducing { sums } = &mut round.phase else {
            return Err(RejectReason::Phase);
        };
        sums.take(worker, report)?;
        round.reducing.insert(worker, report.elapsed);
        let all = sums.count() >= world;
        Ok(all.then(|| sums.verdict(&round.book.computed())))
    }

    /// All members hold the sum of the micro-batches: decides what happens to it and records that.
    fn proven(&mut self, terms: &JobTerms, sum: SumDigest, cx: &mut Context<'_>) -> Flow {
        let health = sum.flags().health();
        let step = self.committed;
        let update = match health {
            SumHealth::Finite => wire::Update::Apply,
            SumHealth::NonFinite | SumHealth::Overflow if self.may_skip(terms) => {
                wire::Update::Skip
            }
            SumHealth::NonFinite | SumHealth::Overflow => {
                return self.fail(FailReason::NonFinite { step, health });
            }
        };
        let Some(record) = self.record_of(update, sum.into(), cx) else {
            return Flow::Continue(());
        };
        self.skipped = match update {
            wire::Update::Apply => 0,
            wire::Update::Skip => self.skipped.saturating_add(1),
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

    /// Whether a step may pass without an update.
    fn may_skip(&self, terms: &JobTerms) -> bool {
        match terms.on_non_finite {
            OnNonFinite::Skip => true,
            OnNonFinite::Fail => self.members.scale_loss() && self.skipped < MOST_SKIPPED,
        }
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

    /// Memory is broken somewhere, or a member lies. Those that are wrong are sent away and their slots computed again;
    /// where that would be everybody, everything of this step is, once.
    fn summed_wrongly(&mut self, wrong: &[(WorkerId, Mistake)], cx: &mut Context<'_>) -> Flow {
        if wrong.len() < self.live_count() {
            for (worker, mistake) in wrong {
                self.expel(*worker, LossCause::Expelled(mistake.to_string()), cx);
            }
            return Flow::Continue(());
        }
        let odd: Vec<WorkerId> = wrong.iter().map(|(worker, _)| *worker).collect();
        if self.trouble.recomputed == Some(self.committed) {
            return self.fail(FailReason::Disagreement {
                what: Compared::Sum,
                step: self.committed,
                odd: self.members.names(&odd),
            });
        }
        self.trouble.recomputed = Some(self.committed);
        for worker in odd {
            self.taint(worker);
        }
        Flow::Continue(())
    }
}
