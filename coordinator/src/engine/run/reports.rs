//! What workers report, each report to where it belongs.

use weft_common::id::WorkerId;
use weft_common::wire::{self, Command, ErrorKind, RejectReason, Round};

use super::super::context::Context;
use super::super::outcome::{FailReason, LossCause};
use super::super::terms::JobTerms;
use super::{Flow, Run};

impl Run {
    pub(super) fn reported(
        &mut self,
        terms: &JobTerms,
        worker: WorkerId,
        report: wire::Event,
        cx: &mut Context<'_>,
    ) -> Flow {
        if self.is_live(worker) {
            self.progress.touch(worker, cx.now);
        }
        match report {
            wire::Event::SlotDone(done) => self.slot_done(worker, &done, cx),
            wire::Event::Reduced(reduced) => return self.reduced(terms, worker, &reduced, cx),
            wire::Event::Applied(applied) => self.applied(worker, &applied, cx),
            wire::Event::Prepared(holding) => self.prepared(terms, worker, holding, cx),
            wire::Event::SyncFailed(_) => self.sync_failed(terms, worker, cx),
            wire::Event::CheckpointWritten(written) => {
                if self.checkpoints.written(worker, written, cx) {
                    self.age.saved(cx.now);
                }
            }
            wire::Event::CheckpointFailed(failed) => {
                self.checkpoints.not_written(worker, failed, cx);
            }
            wire::Event::Failed(failed) => return self.failed(terms, worker, failed, cx),
            wire::Event::Leave { reason } => self.wants_to_leave(worker, reason, cx),
            wire::Event::Heartbeat(_) => {}
        }
        Flow::Continue(())
    }

    fn failed(
        &mut self,
        terms: &JobTerms,
        worker: WorkerId,
        failed: wire::WorkerFailed,
        cx: &mut Context<'_>,
    ) -> Flow {
        let of = &failed.membership;
        if of.job != terms.id || of.term != cx.term {
            return Flow::Continue(());
        }
        if self.candidates.contains_key(&worker) {
            return self.candidate_failed(worker, failed, cx);
        }
        if !self.is_live(worker) {
            return Flow::Continue(());
        }
        if failed.kind == ErrorKind::Collective {
            if of == self.members.membership() {
                self.trouble
                    .heard(worker, failed.suspect, failed.message, cx.now);
            }
            return Flow::Continue(());
        }
        if self.live_count() == 1 && self.holders().is_empty() {
            return self.fail(FailReason::WorkerFailed {
                worker: Box::new(self.name(worker, cx)),
                kind: failed.kind,
                message: failed.message,
            });
        }
        self.expel(worker, LossCause::Failed(failed.message), cx);
        Flow::Continue(())
    }

    /// Takes a member out that is alive: it returns to standby and gets no job again.
    pub(super) fn expel(&mut self, worker: WorkerId, cause: LossCause, cx: &mut Context<'_>) {
        let outcome = cause.to_string();
        cx.fleet.expel(worker, &outcome);
        self.member_lost(worker, self.name(worker, cx), cause, cx);
        cx.send(
            worker,
            Command::EndJob(wire::EndJob {
                membership: self.members.membership().clone(),
                outcome,
            }),
        );
    }

    /// Checks that a report is of the step in hand and from a member; epochs are the caller's to check.
    ///
    /// # Errors
    /// What does not fit, outermost first.
    pub(super) fn fence(
        &self,
        worker: WorkerId,
        round: &Round,
        cx: &Context<'_>,
    ) -> Result<(), RejectReason> {
        let (of, own) = (&round.membership, self.members.membership());
        if of.job != own.job {
            Err(RejectReason::Job)
        } else if of.term != cx.term {
            Err(RejectReason::Term)
        } else if !self.is_live(worker) {
            Err(RejectReason::Member)
        } else if round.step != self.committed {
            Err(RejectReason::Step)
        } else {
            Ok(())
        }
    }
}
