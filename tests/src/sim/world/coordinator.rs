//! The coordinator's side: its driver and its ledger thread.

use std::time::Duration;

use weft_common::id::{Step, Term};
use weft_coordinator::engine::{self, Action, JobOutcome, Notice};

use super::super::coordinator::Write;
use super::super::disk::Fenced;
use super::super::faults::{Bite, Planted};
use super::super::job;
use super::agenda::{AtCoordinator, Happening};
use super::{FENCE_EVERY, World};

impl World {
    /// Feeds an event to a coordinator, unless that is gone; later, where it is paused.
    pub(super) fn tell_coordinator(&mut self, start: u64, event: engine::Event) {
        let Some(coordinator) = self.coordinators.get_mut(&start) else {
            return;
        };
        if coordinator.paused_until > self.now {
            let resumes = coordinator.paused_until;
            self.bites.insert(Bite::CoordinatorPaused);
            let event = Box::new(event);
            self.at(
                resumes,
                Happening::Coordinator(start, AtCoordinator::Told(event)),
            );
            return;
        }
        let clock = coordinator.clock(self.now);
        let actions = coordinator.engine.step(event, clock);
        for action in actions {
            self.perform(start, action);
        }
    }

    pub(super) fn perform(&mut self, start: u64, action: Action) {
        match action {
            Action::AnswerHello(_) | Action::AnswerSubmit(_) => {}
            Action::PrepareData(_) => {
                let wait = self.rng.millis(1, 20);
                self.after(
                    wait,
                    Happening::Coordinator(start, AtCoordinator::DataPrepared),
                );
            }
            Action::Send { to, command } => self.send_down(start, to, command),
            Action::AppendLedger { record, .. } => {
                self.queue_write(start, Write::Append(Box::new(record)));
            }
            Action::RewindLedger { first_step, .. } => {
                self.queue_write(start, Write::Rewind(first_step));
            }
            Action::Hangup(worker) => {
                let session = self.coordinators.get_mut(&start);
                let session = session.and_then(|c| c.sessions.remove(&worker));
                if let Some((_, connection)) = session {
                    self.close_coordinator_end(connection);
                }
            }
            Action::Notify { notice, .. } => self.notice(start, &notice),
            Action::Stop => self.end_coordinator(start),
        }
    }

    fn notice(&mut self, start: u64, notice: &Notice) {
        let Some(term) = self.coordinators.get(&start).map(|own| own.term) else {
            return;
        };
        self.say(|| format!("-- {notice:?}"));
        match notice {
            Notice::EpochFormed(epoch) => self.facts.formed(term, epoch),
            Notice::StepCommitted(step) => self.facts.told(step),
            Notice::Ended(outcome) => self.ended(start, term, outcome),
            Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Planned { .. }
            | Notice::Admitted
            | Notice::Waiting(_)
            | Notice::MemberLost(_)
            | Notice::RolledBack { .. }
            | Notice::CheckpointSaved { .. }
            | Notice::CheckpointFailed { .. }
            | Notice::CheckpointOverdue(_)
            | Notice::GpuSick { .. }
            | Notice::GpuConcern { .. }
            | Notice::Draining(_) => {}
        }
    }

    /// What a coordinator says whose job another one has taken over is not the job's outcome. It ends with its job, as
    /// `weft coordinator` does.
    fn ended(&mut self, start: u64, term: Term, outcome: &JobOutcome) {
        if self.disk.heed_fence(term).is_ok() {
            self.outcome = Some(outcome.clone());
        }
        let reason = outcome.to_string();
        let event = Box::new(engine::Event::ShutdownRequested { reason });
        let told = Happening::Coordinator(start, AtCoordinator::Told(event));
        self.after(Duration::ZERO, told);
    }

    fn queue_write(&mut self, start: u64, write: Write) {
        let takes = self.rng.micros(200, 3000);
        let Some(coordinator) = self.coordinators.get_mut(&start) else {
            return;
        };
        let done = (self.now + takes).max(coordinator.written_by);
        coordinator.written_by = done;
        let early = match (&write, self.setup.planted) {
            (Write::Append(record), Some(Planted::CommitBeforeLedger)) => Some(record.step),
            (Write::Append(_) | Write::Rewind(_), _) => None,
        };
        coordinator.writes.push_back(write);
        self.at(done, Happening::Coordinator(start, AtCoordinator::Written));
        if let Some(step) = early {
            let event = Box::new(engine::Event::LedgerDurable {
                job: job::id(),
                step,
            });
            self.after(
                Duration::ZERO,
                Happening::Coordinator(start, AtCoordinator::Told(event)),
            );
        }
    }

    /// The ledger thread's order is durable; a moment later it looks at the fence, and tells.
    pub(super) fn written(&mut self, start: u64) {
        let Some(coordinator) = self.coordinators.get_mut(&start) else {
            return;
        };
        if coordinator.paused_until > self.now {
            let resumes = coordinator.paused_until;
            self.at(
                resumes,
                Happening::Coordinator(start, AtCoordinator::Written),
            );
            return;
        }
        let (term, write) = (coordinator.term, coordinator.writes.pop_front());
        let Some(write) = write else { return };
        let step = match &write {
            Write::Append(record) => Some(record.step),
            Write::Rewind(_) => None,
        };
        self.write(term, write);
        let wait = self.rng.micros(1, 300);
        self.after(
            wait,
            Happening::Coordinator(start, AtCoordinator::LooksAtFence(step)),
        );
    }

    pub(super) fn looks_at_fence(&mut self, start: u64, step: Option<Step>) {
        let Some(coordinator) = self.coordinators.get(&start) else {
            return;
        };
        if coordinator.paused_until > self.now {
            let again = AtCoordinator::LooksAtFence(step);
            self.at(
                coordinator.paused_until,
                Happening::Coordinator(start, again),
            );
            return;
        }
        let job = job::id();
        let event = match (step, self.disk.heed_fence(coordinator.term)) {
            (_, Err(Fenced(by))) => {
                self.bites.insert(Bite::CoordinatorSuperseded);
                engine::Event::LedgerFenced { job, by }
            }
            (Some(step), Ok(())) => engine::Event::LedgerDurable { job, step },
            (None, Ok(())) => return,
        };
        self.tell_coordinator(start, event);
    }

    /// A ledger thread without orders looks at the fence now and then.
    pub(super) fn idles(&mut self, start: u64) {
        if self.coordinators.contains_key(&start) {
            self.after(
                FENCE_EVERY,
                Happening::Coordinator(start, AtCoordinator::Idles),
            );
            self.looks_at_fence(start, None);
        }
    }

    pub(super) fn write(&mut self, term: Term, write: Write) {
        if self.disk.counts(term)
            && let Write::Append(record) = &write
        {
            self.facts.recorded(record, &self.disk, &self.data);
        }
        match write {
            Write::Append(record) => self.disk.append(term, *record),
            Write::Rewind(step) => self.disk.rewind(term, step),
        }
    }
}
