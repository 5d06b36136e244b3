//! Performs what the engine wants done.

use tracing::warn;
use weft_common::failpoint;
use weft_common::id::{JobId, Step, WorkerId};
use weft_common::wire::Command;

use super::log::log;
use super::{Driver, Flow, Message, Owed, SubmitReply, Taken};
use crate::clock::unix_ms;
use crate::engine::{Action, Event, Notice, SubmitRefusal};
use crate::job_io::JobIo;

impl Driver {
    pub(super) fn perform(&mut self, action: Action, owed: &mut Owed) -> Flow {
        match action {
            Action::AnswerHello(answer) => {
                if let Err(refusal) = &answer {
                    warn!(%refusal, "worker refused");
                }
                if let Owed::Hello(reply) = std::mem::replace(owed, Owed::Nothing) {
                    // The worker may have hung up meanwhile; its registration lapses.
                    let _ = reply.send(answer);
                }
            }
            Action::AnswerSubmit(answer) => {
                if let Owed::Submit(job, reply) = std::mem::replace(owed, Owed::Nothing) {
                    self.answer_submit(&job, answer, reply);
                }
            }
            Action::PrepareData(job) => {
                if let Some(io) = self.jobs.get(&job) {
                    io.prepare(self.term, self.source.clone(), self.sender.clone());
                }
            }
            Action::Send { to, command } => self.send(to, command),
            Action::AppendLedger { job, record } => {
                let step = record.step;
                let ledger = self.jobs.get(&job).and_then(|io| io.ledger.as_ref());
                let taken = ledger.is_some_and(|ledger| ledger.append(record));
                if !taken {
                    self.ledger_ended(job, step);
                }
            }
            Action::RewindLedger { job, first_step } => {
                let ledger = self.jobs.get(&job).and_then(|io| io.ledger.as_ref());
                let taken = ledger.is_some_and(|ledger| ledger.rewind(first_step));
                if !taken {
                    self.ledger_ended(job, first_step);
                }
            }
            Action::Hangup(worker) => {
                self.sessions.remove(&worker);
            }
            Action::Notify { job, notice } => self.notify(job.as_ref(), &notice),
            Action::Stop => return Flow::Stop,
        }
        Flow::Continue
    }

    fn send(&mut self, to: WorkerId, command: Command) {
        if let Command::Reject(reject) = &command {
            warn!(worker = %to, round = %reject.round, reason = %reject.reason, "report refused");
        }
        let Some(session) = self.sessions.get(&to) else {
            return;
        };
        if let Some(name) = phase(&command) {
            failpoint::hit(name);
        }
        if session.outbox.try_send(command).is_err() {
            let session = session.number;
            self.sessions.remove(&to);
            self.later(Event::SessionLost {
                worker: to,
                session,
                cause: "it does not read its commands".to_owned(),
            });
        }
    }

    fn ledger_ended(&self, job: JobId, step: Step) {
        let message = "the ledger's thread has ended".to_owned();
        self.later(Event::LedgerFailed { job, step, message });
    }

    /// Who submitted may be gone; the job runs all the same.
    fn answer_submit(
        &mut self,
        job: &JobId,
        answer: Result<(), SubmitRefusal>,
        reply: SubmitReply,
    ) {
        let refused = match &answer {
            Ok(()) | Err(SubmitRefusal::Busy { .. }) => false,
            Err(SubmitRefusal::Full { .. } | SubmitRefusal::ShuttingDown) => true,
        };
        if refused {
            self.jobs.remove(job);
            self.published.refused(job);
        }
        let answer = answer.and_then(|()| match self.jobs.get_mut(job) {
            Some(io) => Ok(Taken {
                notices: io.followers.add(),
                view: io.view.subscribe(),
            }),
            None => Err(SubmitRefusal::ShuttingDown),
        });
        let _ = reply.send(answer);
    }

    fn notify(&mut self, job: Option<&JobId>, notice: &Notice) {
        log(job, notice);
        if let (Some(job), Notice::Ended(_)) = (job, notice) {
            let attended = self.jobs.get_mut(job).is_some_and(JobIo::leave_results);
            return if attended {
                self.tell(job, notice);
            } else {
                self.ended(job, notice);
            };
        }
        self.record(job, notice);
        let Some(job) = job else {
            // What concerns all is told to those who follow any job.
            for io in self.jobs.values_mut() {
                io.followers.tell(notice);
            }
            return;
        };
        let Some(io) = self.jobs.get_mut(job) else {
            return;
        };
        io.view.send_modify(|view| view.told(notice, unix_ms()));
        match notice {
            Notice::Planned {
                dataset,
                steps_per_epoch,
                ..
            } => {
                io.steps_per_epoch = *steps_per_epoch;
                self.published.prepared(io.id(), dataset);
            }
            Notice::CheckpointSaved { .. } => io.retain(),
            Notice::Admitted
            | Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Waiting(_)
            | Notice::EpochFormed(_)
            | Notice::MemberLost(_)
            | Notice::RolledBack { .. }
            | Notice::StepCommitted(_)
            | Notice::CheckpointFailed { .. }
            | Notice::CheckpointOverdue(_)
            | Notice::GpuSick { .. }
            | Notice::GpuConcern { .. }
            | Notice::Draining(_)
            | Notice::Ended(_) => {}
        }
        io.followers.tell(notice);
    }

    /// A job is over, and what it leaves is there.
    pub(super) fn ended(&mut self, job: &JobId, ended: &Notice) {
        self.record(Some(job), ended);
        if let Some(io) = self.jobs.get_mut(job) {
            io.ledger = None;
            io.view.send_modify(|view| view.told(ended, unix_ms()));
        }
        self.tell(job, ended);
    }

    fn tell(&mut self, job: &JobId, notice: &Notice) {
        if let Some(io) = self.jobs.get_mut(job) {
            io.followers.tell(notice);
        }
    }

    /// Feeds an event that an action led to, after those that wait already.
    fn later(&self, event: Event) {
        let inbox = self.sender.clone();
        tokio::spawn(async move {
            let _ = inbox.send(Message::Event(event)).await;
        });
    }
}

/// What a test may disturb just before it is sent.
fn phase(command: &Command) -> Option<&'static str> {
    match command {
        Command::Lease(_) => Some("granting"),
        Command::Seal(_) => Some("sealing"),
        Command::Commit(_) => Some("committing"),
        Command::TakeCheckpoint(_) => Some("saving"),
        Command::FetchState(_) => Some("syncing"),
        Command::Prepare(_)
        | Command::FormEpoch(_)
        | Command::Restore(_)
        | Command::Settle(_)
        | Command::Reject(_)
        | Command::EndJob(_)
        | Command::Shutdown { .. } => None,
    }
}
