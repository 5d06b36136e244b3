//! Members that are let go, at a moment when nothing is lost by it.

use weft_common::id::WorkerId;
use weft_common::wire::{Command, EndJob};

use super::super::context::Context;
use super::super::terms::JobTerms;
use super::Run;

/// Why a member is let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// Its process was told to stop.
    Process {
        /// Why.
        reason: String,
    },
    /// The job was scaled down.
    Scaled,
}

impl Run {
    /// A worker was told to stop. A member first hands over what it has computed.
    pub(super) fn wants_to_leave(
        &mut self,
        worker: WorkerId,
        reason: String,
        cx: &mut Context<'_>,
    ) {
        if self.is_live(worker) {
            self.leaving.insert(worker, Leaving::Process { reason });
        } else {
            self.candidates.remove(&worker);
            cx.fleet.expel(worker, &reason);
            cx.send(worker, Command::Shutdown { reason });
        }
    }

    /// Lets members go that the step does not stand on; the last ones only once their state is saved.
    pub(super) fn let_go(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        self.shrink();
        let stuck = self.is_decided() || self.is_closing() || self.applying.is_some();
        if self.leaving.is_empty() || stuck {
            return;
        }
        let last = self.staying_count() == 0;
        if last && !self.save_before_leaving(terms, cx) {
            return;
        }
        let leaving: Vec<WorkerId> = self.leaving.keys().copied().collect();
        for worker in leaving {
            let round = self.round.as_ref();
            let needed =
                round.is_some_and(|round| round.book.stands_on(worker) || !round.is_leasing());
            let writes = self.checkpoints.in_flight.as_ref();
            let writes = writes.is_some_and(|writing| writing.writer == worker);
            if last || !(needed || writes) {
                self.release(worker, cx);
            }
        }
    }

    /// Members beyond what the job wants: those that came last go first.
    fn shrink(&mut self) {
        if self.live_count() <= self.target as usize {
            return;
        }
        let staying = self.staying();
        for worker in staying.into_iter().skip(self.target as usize) {
            self.leaving.insert(worker, Leaving::Scaled);
        }
    }

    /// Whether the newest state is on disk, or cannot be put there. Asks for it otherwise: what the step has so far would
    /// be lost with its last members anyway.
    fn save_before_leaving(&mut self, terms: &JobTerms, cx: &mut Context<'_>) -> bool {
        let reducing = self.round.as_ref().is_some_and(|round| !round.is_leasing());
        if reducing {
            return false;
        }
        let saved = self.checkpoints.has(self.committed);
        if saved || self.checkpoints.has_failed(self.committed) {
            return true;
        }
        self.take_checkpoint(terms, cx);
        false
    }

    fn release(&mut self, worker: WorkerId, cx: &mut Context<'_>) {
        let Some(leaving) = self.leaving.remove(&worker) else {
            return;
        };
        self.forget(worker);
        match leaving {
            Leaving::Process { reason } => {
                cx.fleet.expel(worker, &reason);
                cx.send(worker, Command::Shutdown { reason });
            }
            Leaving::Scaled => {
                cx.fleet.assign(worker, None);
                let membership = self.members.membership().clone();
                let outcome = "the job was scaled down".to_owned();
                cx.send(
                    worker,
                    Command::EndJob(EndJob {
                        membership,
                        outcome,
                    }),
                );
            }
        }
    }
}
