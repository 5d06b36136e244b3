//! One job's life.
//!
//! ```text
//! submitted ─► Queued ─► Preparing ─► Active: forming ⇄ running ─► closing ─► Ended: Succeeded | Failed | Cancelled
//!                 └──────────┴────────────────────────────────────────────────────▲
//! ```
//!
//! While it is active its members may come and go; that is [`run`](super::run)'s story.

use std::sync::Arc;

use weft_common::id::{Step, Term, WorkerId};
use weft_common::plan::{LrSchedule, StepPlanner};
use weft_common::wire::{self, DatasetRef, Holding};

use super::action::{Action, Notice};
use super::context::Context;
use super::ending;
use super::outcome::{FailReason, JobOutcome, LossCause, WorkerName};
use super::run::Run;
use super::terms::{Continued, JobTerms};

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What it was submitted with.
    pub terms: JobTerms,
    /// How many workers it may have.
    pub allotment: Allotment,
    /// Where it stands.
    pub state: JobState,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// Its dataset is being prepared.
    Preparing,
    /// Its steps are computed, or it waits for workers to do so.
    Active(Box<Run>),
    /// It is over.
    Ended(JobOutcome),
}

/// How many workers a job may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allotment {
    /// At most so many.
    pub workers: u32,
    /// Whether there are too few workers for all jobs.
    pub contended: bool,
}

/// What a job computes: its data and how they are cut into steps.
#[derive(Debug)]
pub struct RunData {
    /// The prepared dataset.
    pub dataset: DatasetRef,
    /// The plan of each step.
    pub planner: StepPlanner,
    /// The learning rate of each step, for the ledger.
    pub schedule: LrSchedule,
}

impl RunData {
    /// Steps of the whole job.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.planner.total_steps()
    }
}

/// The plan is a pure function of the dataset and of the recipe, which a job never changes: comparing the data compares
/// the plans.
impl PartialEq for RunData {
    fn eq(&self, other: &Self) -> bool {
        self.dataset == other.dataset && self.total_steps() == other.total_steps()
    }
}

/// What happens to a job.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// Its turn has come.
    Admitted,
    /// How many workers it may have, now.
    Allotted(Allotment),
    /// Its dataset is prepared, and its ledger says where it goes on.
    DataPrepared(Arc<RunData>, Option<Continued>),
    /// Its dataset could not be prepared.
    DataFailed(String),
    /// A worker can be talked to; it may come back with what it holds of this job.
    WorkerCame(WorkerId, Option<Box<Holding>>),
    /// Workers are gone, all at once.
    WorkersGone(Vec<Loss>),
    /// A worker said something.
    Reported(WorkerId, Box<wire::Event>),
    /// A commit record is on disk.
    LedgerDurable(Step),
    /// A commit record could not be written.
    LedgerFailed(Step, String),
    /// Someone asked for the job to end.
    CancelRequested,
    /// Someone wants another number of workers.
    ScaleRequested(u32),
    /// Time passed.
    Tick,
}

/// A worker that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Which.
    pub worker: WorkerId,
    /// As people find it.
    pub name: WorkerName,
    /// How it was noticed.
    pub cause: LossCause,
}

impl Job {
    /// A job that was just submitted.
    #[must_use]
    pub fn submitted(terms: JobTerms) -> Self {
        let allotment = Allotment {
            workers: terms.workers,
            contended: false,
        };
        Self {
            terms,
            allotment,
            state: JobState::Queued,
        }
    }

    /// Whether it still needs workers.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !matches!(self.state, JobState::Ended(_))
    }

    /// Its outcome, now that another coordinator has taken it over.
    pub(super) fn superseded(&self, by: Term) -> JobOutcome {
        let checkpoint = match &self.state {
            JobState::Active(run) => run.checkpoints.complete.clone(),
            JobState::Queued | JobState::Preparing | JobState::Ended(_) => {
                self.terms.resume.clone()
            }
        };
        let reason = FailReason::Superseded { by };
        JobOutcome::Failed { reason, checkpoint }
    }

    /// Whether its dataset is being prepared.
    #[must_use]
    pub fn is_preparing(&self) -> bool {
        matches!(self.state, JobState::Preparing)
    }

    /// What follows from an event.
    #[must_use]
    pub fn step(self, event: JobEvent, cx: &mut Context<'_>) -> Self {
        let Self {
            mut terms,
            mut allotment,
            state,
        } = self;
        if let JobEvent::Allotted(now) = &event {
            allotment = *now;
        }
        if let JobEvent::ScaleRequested(workers) = &event {
            terms.workers = *workers;
        }
        let state = match state {
            JobState::Queued => queued(&terms, event, cx),
            JobState::Preparing => preparing(&mut terms, allotment, event, cx),
            JobState::Active(run) => run.step(&terms, event, cx),
            JobState::Ended(outcome) => ended(outcome, event, cx),
        };
        Self {
            terms,
            allotment,
            state,
        }
    }
}

fn queued(terms: &JobTerms, event: JobEvent, cx: &mut Context<'_>) -> JobState {
    match event {
        JobEvent::Admitted => {
            cx.notify(Notice::Admitted);
            cx.act(Action::PrepareData(terms.id.clone()));
            return JobState::Preparing;
        }
        JobEvent::CancelRequested => return ending::cancelled(terms, terms.resume.clone(), cx),
        JobEvent::Reported(worker, report) => ending::refuse_stranger(worker, *report, cx),
        JobEvent::Allotted(_)
        | JobEvent::DataPrepared(..)
        | JobEvent::DataFailed(_)
        | JobEvent::WorkerCame(..)
        | JobEvent::WorkersGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::LedgerFailed(..)
        | JobEvent::ScaleRequested(_)
        | JobEvent::Tick => {}
    }
    JobState::Queued
}

fn preparing(
    terms: &mut JobTerms,
    allotment: Allotment,
    event: JobEvent,
    cx: &mut Context<'_>,
) -> JobState {
    match event {
        JobEvent::DataPrepared(data, continued) => {
            terms.continued = continued;
            return Run::begin(terms, data, allotment, cx);
        }
        JobEvent::DataFailed(message) => {
            let reason = FailReason::Data { message };
            return ending::fail(terms, reason, terms.resume.clone(), cx);
        }
        JobEvent::CancelRequested => return ending::cancelled(terms, terms.resume.clone(), cx),
        JobEvent::Reported(worker, report) => ending::refuse_stranger(worker, *report, cx),
        // It says again what it holds when it is asked to load the job.
        JobEvent::LedgerFailed(step, message) => {
            let reason = FailReason::Ledger { step, message };
            return ending::fail(terms, reason, terms.resume.clone(), cx);
        }
        JobEvent::Admitted
        | JobEvent::Allotted(_)
        | JobEvent::WorkerCame(..)
        | JobEvent::WorkersGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::ScaleRequested(_)
        | JobEvent::Tick => {}
    }
    JobState::Preparing
}

fn ended(outcome: JobOutcome, event: JobEvent, cx: &mut Context<'_>) -> JobState {
    match event {
        JobEvent::Reported(worker, report) => ending::refuse_stranger(worker, *report, cx),
        JobEvent::Admitted
        | JobEvent::Allotted(_)
        | JobEvent::DataPrepared(..)
        | JobEvent::DataFailed(_)
        | JobEvent::WorkerCame(..)
        | JobEvent::WorkersGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::LedgerFailed(..)
        | JobEvent::CancelRequested
        | JobEvent::ScaleRequested(_)
        | JobEvent::Tick => {}
    }
    JobState::Ended(outcome)
}
