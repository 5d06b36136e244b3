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
mod gpu;
mod grants;
mod invariants;
mod job;
mod jobs;
mod lease;
mod members;
mod outcome;
mod placement;
mod placing;
mod round;
mod run;
mod sums;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use weft_common::id::{JobId, Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{self, Command, Hello, Holding, Refusal};

pub use action::{
    AcceptedSlot, Action, EpochReport, Incident, Notice, StepReport, StepTiming, SubmitRefusal,
};
pub use event::Event;
pub use fleet::WorkerRecord;
pub use job::{Job, JobState, RunData};
pub use outcome::{Compared, FailReason, JobOutcome, LossCause, WorkerName};
pub use run::{DrainCause, Run, WaitReason};
pub use terms::{CommittedSum, Continued, JobTerms, Limits, Needs, OnNonFinite};

use context::Context;
use fleet::Fleet;
use gpu::GpuNews;
use invariants::Checks;
use job::{JobEvent, Loss};
use jobs::Jobs;
use lease::LeaseIds;
use placing::{ends_a_job, shifts_workers};

/// The coordinator's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    term: Term,
    limits: Limits,
    fleet: Fleet,
    jobs: Jobs,
    lease_ids: LeaseIds,
    closing: Option<Closing>,
    /// What workers are told who come although there is nothing left to compute.
    retired: Option<String>,
    /// When workers were last given out.
    placed: Timestamp,
    checks: Checks,
}

/// Even where nothing happens: hosts that were kept out for a while may come in again.
const PLACE_EVERY: Duration = Duration::from_secs(1);

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
            jobs: Jobs::default(),
            lease_ids: LeaseIds::default(),
            closing: None,
            retired: None,
            placed: Timestamp::ZERO,
            checks: Checks::default(),
        }
    }

    /// A job: not over, or over not long ago.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// Workers that can be talked to, in the order they started.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &WorkerRecord)> {
        self.fleet.attached()
    }

    /// What follows from an event.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        let due = now.since(self.placed) >= PLACE_EVERY;
        let shifts = shifts_workers(&event) || due;
        self.apply(event, now, &mut out);
        if shifts || self.fleet.take_freed() || ends_a_job(&out) {
            self.placed = now;
            self.place(now, &mut out);
        }
        self.close(now, &mut out);
        if cfg!(debug_assertions) {
            let mut checks = self.checks;
            assert_eq!(checks.after_event(self), Vec::<String>::new());
            self.checks = checks;
        }
        out
    }

    fn apply(&mut self, event: Event, now: Timestamp, out: &mut Vec<Action>) {
        match event {
            Event::Submitted(terms) => self.submitted(terms, out),
            Event::CancelRequested(job) => {
                self.tell_job(&job, JobEvent::CancelRequested, now, out);
            }
            Event::DataPrepared {
                job,
                data,
                continued,
            } => self.tell_job(&job, JobEvent::DataPrepared(data, continued), now, out),
            Event::DataFailed { job, message } => {
                self.tell_job(&job, JobEvent::DataFailed(message), now, out);
            }
            Event::LedgerDurable { job, step } => {
                self.tell_job(&job, JobEvent::LedgerDurable(step), now, out);
            }
            Event::LedgerFailed { job, step, message } => {
                self.tell_job(&job, JobEvent::LedgerFailed(step, message), now, out);
            }
            Event::LedgerFenced { job, by } => self.superseded(&job, by, now, out),
            Event::Registered { hello, ip } => self.registered(hello, ip, now, out),
            Event::ScaleRequested { job, workers } => {
                self.tell_job(&job, JobEvent::ScaleRequested(workers), now, out);
            }
            Event::DrainRequested(worker) => {
                self.let_go(worker, "it was drained".to_owned(), now, out);
            }
            Event::Retired { reason } => self.retire(reason, out),
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
                    self.lose([(worker, LossCause::SessionLost(cause))], now, out);
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

    fn submitted(&mut self, terms: JobTerms, out: &mut Vec<Action>) {
        let refusal = if self.closing.is_some() || self.retired.is_some() {
            Some(SubmitRefusal::ShuttingDown)
        } else if self.jobs.is_open(&terms.id) {
            Some(SubmitRefusal::Busy {
                active: terms.id.clone(),
            })
        } else if self.jobs.open_count() >= self.limits.max_jobs {
            Some(SubmitRefusal::Full {
                limit: self.limits.max_jobs,
            })
        } else {
            None
        };
        out.push(Action::AnswerSubmit(refusal.clone().map_or(Ok(()), Err)));
        if refusal.is_none() {
            self.jobs.submit(Job::submitted(terms));
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
            self.lose([(hello.worker, cause)], now, out);
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
        out.extend(name.map(|name| Action::Notify {
            job: None,
            notice: Notice::WorkerJoined(name),
        }));
        if let Some(reason) = self.retired.clone() {
            self.dismiss(worker, reason, out);
            return;
        }
        if let Some(holding) = holding {
            let job = holding.membership.job.clone();
            self.tell_job(&job, JobEvent::WorkerCame(worker, Some(holding)), now, out);
            // A job that cannot take it in yet finds it where it is, unless another one has it load its own meanwhile.
            if self.jobs.is_open(&job) {
                let within = self.limits.reattach_within;
                self.fleet.keep(worker, job, now, within);
            }
        }
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
            let news = self.fleet.beat(worker, heartbeat);
            self.heed_gpu(worker, news, now, out);
            return;
        }
        let job = self.fleet.get(worker).and_then(|record| record.job.clone());
        match job.filter(|job| self.jobs.is_open(job)) {
            Some(job) => self.tell_job(&job, JobEvent::Reported(worker, Box::new(event)), now, out),
            None => ending::refuse_stranger(worker, event, &mut self.context(None, now, out)),
        }
    }

    /// Tells people what is new about a worker's GPU, and lets a worker go whose GPU is sick: from its job, or from the
    /// next one where that ended before.
    fn heed_gpu(&mut self, worker: WorkerId, news: GpuNews, now: Timestamp, out: &mut Vec<Action>) {
        let Some(record) = self.fleet.get(worker) else {
            return;
        };
        let free = record.job.is_none() && record.kept_out.is_none();
        let due = news.sick.is_some() || free;
        let sickness = record.gpu.sickness().filter(|_| due);
        for notice in news.notices(|| record.name(worker, None)) {
            let job = record.job.clone();
            out.push(Action::Notify { job, notice });
        }
        if let Some(sickness) = sickness {
            self.let_go(worker, sickness.to_string(), now, out);
        }
    }

    /// As if the worker itself had been told to stop.
    fn let_go(&mut self, worker: WorkerId, reason: String, now: Timestamp, out: &mut Vec<Action>) {
        let Some(record) = self.fleet.get(worker) else {
            return;
        };
        match record.job.clone() {
            Some(job) => {
                let leave = wire::Event::Leave { reason };
                self.tell_job(&job, JobEvent::Reported(worker, Box::new(leave)), now, out);
            }
            None => self.dismiss(worker, reason, out),
        }
    }

    /// Sends everybody home who has no job, and whoever comes later.
    fn retire(&mut self, reason: String, out: &mut Vec<Action>) {
        let attached = self.fleet.attached();
        let idle = attached.filter(|(_, record)| record.job.is_none());
        let idle: Vec<WorkerId> = idle.map(|(worker, _)| worker).collect();
        for worker in idle {
            self.dismiss(worker, reason.clone(), out);
        }
        self.retired = Some(reason);
    }

    fn dismiss(&mut self, worker: WorkerId, reason: String, out: &mut Vec<Action>) {
        self.fleet.expel(worker, &reason);
        let command = Command::Shutdown { reason };
        out.push(Action::Send {
            to: worker,
            command,
        });
    }

    /// Forgets workers that are gone. Each job is told once of all that it loses, so that it forms one membership without
    /// them.
    fn lose(
        &mut self,
        gone: impl IntoIterator<Item = (WorkerId, LossCause)>,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        let mut losses: BTreeMap<JobId, Vec<Loss>> = BTreeMap::new();
        for (worker, cause) in gone {
            let Some(record) = self.fleet.remove(worker) else {
                continue;
            };
            self.fleet.struck(&record, now);
            let name = record.name(worker, None);
            out.push(Action::Hangup(worker));
            out.push(Action::Notify {
                job: None,
                notice: Notice::WorkerGone {
                    worker: name.clone(),
                    cause: cause.to_string(),
                },
            });
            if let Some(job) = record.job {
                let loss = Loss {
                    worker,
                    name,
                    cause,
                };
                losses.entry(job).or_default().push(loss);
            }
        }
        for (job, losses) in losses {
            self.tell_job(&job, JobEvent::WorkersGone(losses), now, out);
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let silent = self.fleet.silent(&self.limits, now);
        self.lose(silent, now, out);
        self.tell_admitted(&JobEvent::Tick, now, out);
    }

    fn shutdown_requested(&mut self, reason: String, now: Timestamp, out: &mut Vec<Action>) {
        if self.closing.is_none() {
            self.closing = Some(Closing {
                reason,
                dismissed: None,
            });
            let open: Vec<JobId> = self.jobs.open().map(|job| job.terms.id.clone()).collect();
            for job in open {
                self.tell_job(&job, JobEvent::CancelRequested, now, out);
            }
        }
    }

    /// Hangs up on a job's workers. They are not told to let go of anything: they look for whoever is there now, and what
    /// they hold counts there. A coordinator that has no other job ends, so that none of them comes back to it.
    fn superseded(&mut self, id: &JobId, by: Term, now: Timestamp, out: &mut Vec<Action>) {
        let Some(mut job) = self.jobs.take(id) else {
            return;
        };
        if job.is_active() {
            let outcome = job.superseded(by);
            out.extend(self.fleet.clear_of(id).into_iter().map(Action::Hangup));
            out.push(Action::Notify {
                job: Some(id.clone()),
                notice: Notice::Ended(outcome.clone()),
            });
            job.state = JobState::Ended(outcome);
        }
        self.jobs.put_back(job);
        let stays = self.limits.outlives_jobs;
        if self.jobs.all_over() && self.closing.is_none() && !stays {
            out.extend(self.fleet.clear().into_iter().map(Action::Hangup));
            self.closing = Some(Closing {
                reason: format!("the coordinator of term {by} has taken over"),
                dismissed: Some(now),
            });
        }
    }

    /// A closing coordinator dismisses its workers once no job needs them, and stops once they are gone.
    fn close(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let over = self.jobs.all_over();
        let Some(closing) = self.closing.as_mut().filter(|_| over) else {
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

    fn tell_admitted(&mut self, event: &JobEvent, now: Timestamp, out: &mut Vec<Action>) {
        let admitted = self.jobs.admitted();
        let admitted: Vec<JobId> = admitted.map(|job| job.terms.id.clone()).collect();
        for job in admitted {
            self.tell_job(&job, event.clone(), now, out);
        }
    }

    fn tell_job(&mut self, id: &JobId, event: JobEvent, now: Timestamp, out: &mut Vec<Action>) {
        if let Some(job) = self.jobs.take(id) {
            let job = job.step(event, &mut self.context(Some(id.clone()), now, out));
            self.jobs.put_back(job);
        }
    }

    fn context<'a>(
        &'a mut self,
        job: Option<JobId>,
        now: Timestamp,
        out: &'a mut Vec<Action>,
    ) -> Context<'a> {
        Context {
            now,
            term: self.term,
            limits: &self.limits,
            fleet: &mut self.fleet,
            lease_ids: &mut self.lease_ids,
            job,
            out,
        }
    }
}
