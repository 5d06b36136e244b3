//! Members that are gone.

use weft_common::id::WorkerId;

use super::super::action::{Incident, Notice};
use super::super::context::Context;
use super::super::job::Loss;
use super::super::outcome::{LossCause, WorkerName};
use super::Run;

impl Run {
    /// A worker's process, machine or connection is gone.
    pub(super) fn worker_gone(&mut self, loss: &Loss, cx: &mut Context<'_>) {
        if self.candidates.remove(&loss.worker).is_some() {
            return;
        }
        if self.is_live(loss.worker) {
            self.member_lost(loss.worker, loss.name.clone(), loss.cause.clone(), cx);
        }
    }

    /// The one decision on a member that is gone: its slots of an undecided step return to the pool, and the next epoch
    /// is formed without it.
    pub(super) fn member_lost(
        &mut self,
        worker: WorkerId,
        name: WorkerName,
        cause: LossCause,
        cx: &mut Context<'_>,
    ) {
        let slots_returned = self.forget(worker);
        cx.notify(Notice::MemberLost(Incident {
            worker: self.members.get(worker).map_or(name, |m| m.name.clone()),
            cause,
            step: self.committed,
            slots_returned,
            left: self.live_count(),
        }));
    }

    /// Takes a member out; how many slots that returns to the pool.
    pub(super) fn forget(&mut self, worker: WorkerId) -> usize {
        self.gone.insert(worker);
        self.leaving.remove(&worker);
        self.tainted.remove(&worker);
        self.progress.forget(worker);
        self.checkpoints.writer_gone(worker);
        if let Some(applying) = &mut self.applying {
            applying.forget(worker);
        }
        let undecided = self.round.as_mut().filter(|round| !round.is_decided());
        undecided.map_or(0, |round| round.book.release(worker))
    }
}
