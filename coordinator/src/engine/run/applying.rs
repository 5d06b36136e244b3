//! After the commit: members apply the step, and must agree on what came out.

use weft_common::id::WorkerId;
use weft_common::wire::{AppliedReport, RejectReason};

use super::super::action::Notice;
use super::super::ballot::BallotVerdict;
use super::super::context::Context;
use super::super::outcome::{Compared, FailReason, LossCause};
use super::{Flow, Run};

impl Run {
    /// A worker applied a committed step.
    pub(super) fn applied(
        &mut self,
        worker: WorkerId,
        report: &AppliedReport,
        cx: &mut Context<'_>,
    ) {
        if self.caught_up(worker, report, cx) {
            return;
        }
        let taken = match &mut self.applying {
            Some(applying) => applying.take(worker, report),
            None => Err(RejectReason::Phase),
        };
        match taken {
            Ok(()) => {
                if let Some(round) = &mut self.round {
                    round.computed(worker, report.elapsed);
                }
            }
            Err(reason) => cx.reject(worker, report.round.clone(), reason),
        }
    }

    /// Once all members that are left have applied the step, people are told of it.
    pub(super) fn settle_applied(&mut self, cx: &mut Context<'_>) -> Flow {
        let Some(applying) = &self.applying else {
            return Flow::Continue(());
        };
        match applying.verdict() {
            BallotVerdict::Open => {}
            BallotVerdict::Unanimous(digest) => {
                self.state = Some(digest);
                self.grad_norm = applying.report.grad_norm;
                if let Some(applying) = self.applying.take() {
                    cx.notify(Notice::StepCommitted(applying.into_report(digest)));
                }
            }
            BallotVerdict::Split(odd) => return self.states_differ(&odd, cx),
        }
        Flow::Continue(())
    }

    /// Those outside a majority are sent away; without one nobody knows which state is right.
    fn states_differ(&mut self, odd: &[WorkerId], cx: &mut Context<'_>) -> Flow {
        if odd.len() == self.live_count() {
            return self.fail(FailReason::Disagreement {
                what: Compared::State,
                step: Compared::before(self.committed),
                odd: self.members.names(odd),
            });
        }
        for worker in odd {
            let why = format!("it differs from the others in {}", Compared::State);
            self.expel(*worker, LossCause::Expelled(why), cx);
        }
        self.settle_applied(cx)
    }
}
