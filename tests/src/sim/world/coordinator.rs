//! The coordinator's side: its driver and its ledger thread.

use std::time::Duration;

use weft_common::id::Term;
use weft_coordinator::engine::{self, Action, Notice};

use super::super::coordinator::Write;
use super::super::disk::Fenced;
use super::super::faults::Planted;
use super::super::job;
use super::World;
use super::agenda::{AtCoordinator, Happening};

impl World {
    /// Feeds an event to a coordinator, unless that is gone; later, where it is paused.
    pub(super) fn tell_coordinator(&mut self, start: u64, event: engine::Event) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.start == start) else {
            return;
        };
        if coordinator.paused_until > self.now {
            let resumes = coordinator.paused_until;
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
            Action::Send { to, command } => self.send_down(to, command),
            Action::AppendLedger { record, .. } => {
                self.queue_write(start, Write::Append(Box::new(record)));
            }
            Action::RewindLedger { first_step, .. } => {
                self.queue_write(start, Write::Rewind(first_step));
            }
            Action::Hangup(worker) => {
                let session = self.coordinator.as_mut();
                let session = session.and_then(|c| c.sessions.remove(&worker));
                if let Some((_, connection)) = session {
                    self.close_coordinator_end(connection);
                }
            }
            Action::Notify { notice, .. } => self.notice(&notice),
            Action::Stop => self.end_coordinator(),
        }
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        let term = self.disk.term;
        self.say(|| format!("-- {notice:?}"));
        match notice {
            Notice::EpochFormed(epoch) => self.facts.formed(term, epoch),
            Notice::StepCommitted(step) => self.facts.told(step),
            Notice::Ended(outcome) => self.outcome = Some(outcome.clone()),
            Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Planned { .. }
            | Notice::Admitted
            | Notice::Waiting(_)
            | Notice::MemberLost(_)
            | Notice::RolledBack { .. }
            | Notice::CheckpointSaved { .. }
            | Notice::CheckpointFailed { .. }
            | Notice::Draining(_) => {}
        }
    }

    pub(super) fn queue_write(&mut self, start: u64, write: Write) {
        let takes = self.rng.micros(200, 3000);
        let Some(coordinator) = self.coordinator.as_mut() else {
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

    pub(super) fn written(&mut self, start: u64) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.start == start) else {
            return;
        };
        let (term, write) = (coordinator.term, coordinator.writes.pop_front());
        let Some(write) = write else { return };
        let step = match &write {
            Write::Append(record) => Some(record.step),
            Write::Rewind(_) => None,
        };
        let taken = self.write(term, write);
        let job = job::id();
        let event = match (step, taken) {
            (Some(step), Ok(())) => engine::Event::LedgerDurable { job, step },
            (None, Ok(())) => return,
            (step, Err(_)) => engine::Event::LedgerFailed {
                job,
                step: step.unwrap_or_default(),
                message: "fenced".into(),
            },
        };
        let wait = self.rng.micros(1, 300);
        let event = Box::new(event);
        self.after(
            wait,
            Happening::Coordinator(start, AtCoordinator::Told(event)),
        );
    }

    pub(super) fn write(&mut self, term: Term, write: Write) -> Result<(), Fenced> {
        match write {
            Write::Append(record) => {
                self.facts.recorded(&record, &self.disk, &self.data);
                self.disk.append(term, *record)
            }
            Write::Rewind(step) => self.disk.rewind(term, step),
        }
    }
}
