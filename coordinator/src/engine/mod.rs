//! The coordinator's pure core: what happened goes in, what is to be done comes out.
//!
//! [`Engine::step`] is the only door. It reads no clock, does no I/O and draws no random numbers, so the whole control
//! plane can be driven by a test, a property or a simulation. A job's life is drawn in `job.rs`.

mod action;
mod applied;
mod ballot;
mod context;
mod ending;
mod event;
mod flapping;
mod fleet;
mod invariants;
mod job;
mod lease;
mod members;
mod outcome;
mod round;
mod run;
mod terms;
#[cfg(test)]
mod tests;

use weft_common::id::{Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{self, Command, Hello, Holding, Refusal};

pub use action::{
    AcceptedSlot, Action, EpochReport, Incident, Notice, StepReport, StepTiming, SubmitRefusal,
};
pub use event::Event;
pub use job::{Job, JobState, RunData};
pub use outcome::{Compared, FailReason, JobOutcome, LossCause, WorkerName};
pub use run::{DrainCause, Run, WaitReason};
pub use terms::{CommittedSum, Continued, JobTerms, Limits, OnNonFinite};

use context::Context;
use fleet::Fleet;
use job::{JobEvent, Loss};
use lease::LeaseIds;

/// The coordinator's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    term: Term,
    limits: Limits,
    fleet: Fleet,
    job: Option<Job>,
    lease_ids: LeaseIds,
    closing: Option<Closing>,
}

/// A coordinator that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closing {
    reason: String,
    /// When the workers were dismissed.
    dismissed: Option<Timestamp>,
}

impl Engine {
    /// A coordinator that knows no worker and no job.
    #[must_use]
    pub fn new(term: Term, limits: Limits) -> Self {
        Self {
            term,
            limits,
            fleet: Fleet::default(),
            job: None,
            lease_ids: LeaseIds::default(),
            closing: None,
        }
    }

    /// The last job that was submitted.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    /// What follows from an event.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        self.apply(event, now, &mut out);
        self.close(now, &mut out);
        debug_assert_eq!(invariants::violations(self), Vec::<String>::new());
        out
    }

    fn apply(&mut self, event: Event, now: Timestamp, out: &mut Vec<Action>) {
        match event {
            Event::Submitted(terms) => self.submitted(terms, now, out),
            Event::CancelRequested(job) => {
                self.tell_job_of(&job, JobEvent::CancelRequested, now, out);
            }
            Event::DataPrepared { job, data } => {
                self.tell_job_of(&job, JobEvent::DataPrepared(data), now, out);
            }
            Event::DataFailed { job, message } => {
                self.tell_job_of(&job, JobEvent::DataFailed(message), now, out);
            }
            Event::LedgerDurable { job, step } => {
                self.tell_job_of(&job, JobEvent::LedgerDurable(step), now, out);
            }
            Event::LedgerFailed { job, step, message } => {
                self.tell_job_of(&job, JobEvent::LedgerFailed(step, message), now, out);
            }
            Event::Registered { hello, ip } => self.registered(hello, ip, now, out),
            Event::ScaleRequested { job, workers } => {
                self.tell_job_of(&job, JobEvent::ScaleRequested(workers), now, out);
            }
            Event::Attached {
                worker,
                session,
                holding,
            } => self.attached((worker, session), holding, now, out),
            Event::SessionLost {
                worker,
                session,
                cause,
            } => {
                if self.fleet.is_current(worker, session) {
                    self.lose(worker, LossCause::SessionLost(cause), now, out);
                }
            }
            Event::Reported {
                worker,
                session,
                event,
            } => self.reported((worker, session), event, now, out),
            Event::ShutdownRequested { reason } => self.shutdown_requested(reason, now, out),
            Event::Tick => self.tick(now, out),
        }
    }

    fn submitted(&mut self, terms: JobTerms, now: Timestamp, out: &mut Vec<Action>) {
        let active = self.job.as_ref().filter(|job| job.is_active());
        let refusal = match (&self.closing, active) {
            (Some(_), _) => Some(SubmitRefusal::ShuttingDown),
            (None, Some(job)) => Some(SubmitRefusal::Busy {
                active: job.terms.id.clone(),
            }),
            (None, None) => None,
        };
        out.push(Action::AnswerSubmit(refusal.clone().map_or(Ok(()), Err)));
        if refusal.is_none() {
            let job = Job::submitted(terms, &mut self.context(now, out));
            self.job = Some(job);
        }
    }

    fn registered(
        &mut self,
        hello: Hello,
        ip: std::net::IpAddr,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        if self.fleet.replaces(&hello) {
            let cause = LossCause::SessionLost("it opened a new session".to_owned());
            self.lose(hello.worker, cause, now, out);
        }
        let answer = match self.closing {
            Some(_) => Err(Refusal::ShuttingDown),
            None => self.fleet.register(hello, ip, self.term, &self.limits, now),
        };
        out.push(Action::AnswerHello(answer));
    }

    fn attached(
        &mut self,
        (worker, session): (WorkerId, u32),
        holding: Option<Box<Holding>>,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        if !self.fleet.attach(worker, session, now) {
            if !self.fleet.is_current(worker, session) {
                out.push(Action::Hangup(worker));
            }
            return;
        }
        let name = self
            .fleet
            .get(worker)
            .map(|record| record.name(worker, None));
        out.extend(name.map(|name| Action::Notify(Notice::WorkerJoined(name))));
        let job = self.job.as_ref().filter(|job| job.is_active());
        let own = holding.filter(|held| job.is_some_and(|job| job.terms.id == held.membership.job));
        self.tell_job(JobEvent::WorkerCame(worker, own), now, out);
    }

    fn reported(
        &mut self,
        (worker, session): (WorkerId, u32),
        event: wire::Event,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        if !self.fleet.heard(worker, session, now) {
            return;
        }
        if let wire::Event::Heartbeat(heartbeat) = event {
            self.fleet.beat(worker, heartbeat);
        } else if self.job.is_some() {
            self.tell_job(JobEvent::Reported(worker, event), now, out);
        } else {
            ending::refuse_stranger(worker, event, &mut self.context(now, out));
        }
    }

    fn lose(&mut self, worker: WorkerId, cause: LossCause, now: Timestamp, out: &mut Vec<Action>) {
        let Some(record) = self.fleet.remove(worker) else {
            return;
        };
        self.fleet.struck(&record, now);
        let name = record.name(worker, None);
        out.push(Action::Hangup(worker));
        out.push(Action::Notify(Notice::WorkerGone {
            worker: name.clone(),
            cause: cause.to_string(),
        }));
        let loss = Loss {
            worker,
            name,
            cause,
        };
        self.tell_job(JobEvent::WorkerGone(loss), now, out);
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        for (worker, cause) in self.fleet.silent(&self.limits, now) {
            self.lose(worker, cause, now, out);
        }
        self.tell_job(JobEvent::Tick, now, out);
    }

    fn shutdown_requested(&mut self, reason: String, now: Timestamp, out: &mut Vec<Action>) {
        if self.closing.is_none() {
            self.closing = Some(Closing {
                reason,
                dismissed: None,
            });
            self.tell_job(JobEvent::CancelRequested, now, out);
        }
    }

    /// A closing coordinator dismisses its workers once no job needs them, and stops once they are gone.
    fn close(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let active = self.job.as_ref().is_some_and(Job::is_active);
        let Some(closing) = self.closing.as_mut().filter(|_| !active) else {
            return;
        };
        let since = match closing.dismissed {
            Some(since) => since,
            None => {
                closing.dismissed = Some(now);
                let reason = closing.reason.clone();
                let command = Command::Shutdown { reason };
                let workers = self.fleet.attached();
                out.extend(workers.map(|(to, _)| Action::Send {
                    to,
                    command: command.clone(),
                }));
                now
            }
        };
        if self.fleet.is_empty() || now.since(since) >= self.limits.dismiss_within {
            out.push(Action::Stop);
        }
    }

    fn tell_job_of(
        &mut self,
        id: &weft_common::id::JobId,
        event: JobEvent,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        if self.job.as_ref().is_some_and(|job| &job.terms.id == id) {
            self.tell_job(event, now, out);
        }
    }

    fn tell_job(&mut self, event: JobEvent, now: Timestamp, out: &mut Vec<Action>) {
        if let Some(job) = self.job.take() {
            let job = job.step(event, &mut self.context(now, out));
            self.job = Some(job);
        }
    }

    fn context<'a>(&'a mut self, now: Timestamp, out: &'a mut Vec<Action>) -> Context<'a> {
        Context {
            now,
            term: self.term,
            limits: &self.limits,
            fleet: &mut self.fleet,
            lease_ids: &mut self.lease_ids,
            out,
        }
    }
}
