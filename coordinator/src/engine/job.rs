//! One job's life.
//!
//! ```text
//! submitted ─► Preparing ─► Active: forming ⇄ running ─► closing ─► Ended: Succeeded | Failed | Cancelled
//!                 └────────────────────────────────────────────────────▲
//! ```
//!
//! While it is active its members may come and go; that is [`run`](super::run)'s story.

use std::sync::Arc;

use weft_common::id::{Step, WorkerId};
use weft_common::plan::{LrSchedule, StepPlanner};
use weft_common::wire::{self, DatasetRef, Holding};

use super::action::Action;
use super::context::Context;
use super::ending;
use super::outcome::{FailReason, JobOutcome, LossCause, WorkerName};
use super::run::Run;
use super::terms::JobTerms;

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What it was submitted with.
    pub terms: JobTerms,
    /// Where it stands.
    pub state: JobState,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// Its dataset is being prepared.
    Preparing,
    /// Its steps are computed, or it waits for workers to do so.
    Active(Box<Run>),
    /// It is over.
    Ended(JobOutcome),
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
    /// Its dataset is prepared.
    DataPrepared(Arc<RunData>),
    /// Its dataset could not be prepared.
    DataFailed(String),
    /// A worker can be talked to; it may come back with what it holds of this job.
    WorkerCame(WorkerId, Option<Box<Holding>>),
    /// A worker is gone.
    WorkerGone(Loss),
    /// A worker said something.
    Reported(WorkerId, wire::Event),
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
    pub fn submitted(terms: JobTerms, cx: &mut Context<'_>) -> Self {
        cx.act(Action::PrepareData(terms.id.clone()));
        Self {
            terms,
            state: JobState::Preparing,
        }
    }

    /// Whether it still needs workers.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !matches!(self.state, JobState::Ended(_))
    }

    /// What follows from an event.
    #[must_use]
    pub fn step(self, event: JobEvent, cx: &mut Context<'_>) -> Self {
        let Self { terms, state } = self;
        let state = match state {
            JobState::Preparing => preparing(&terms, event, cx),
            JobState::Active(run) => run.step(&terms, event, cx),
            JobState::Ended(outcome) => ended(outcome, event, cx),
        };
        Self { terms, state }
    }
}

fn preparing(terms: &JobTerms, event: JobEvent, cx: &mut Context<'_>) -> JobState {
    match event {
        JobEvent::DataPrepared(data) => return Run::begin(terms, data, cx),
        JobEvent::DataFailed(message) => {
            let reason = FailReason::Data { message };
            return ending::fail(terms, reason, terms.resume.clone(), cx);
        }
        JobEvent::CancelRequested => return ending::cancelled(terms, terms.resume.clone(), cx),
        JobEvent::Reported(worker, report) => ending::refuse_stranger(worker, report, cx),
        // It says again what it holds when it is asked to load the job.
        JobEvent::WorkerCame(..)
        | JobEvent::WorkerGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::LedgerFailed(..)
        | JobEvent::ScaleRequested(_)
        | JobEvent::Tick => {}
    }
    JobState::Preparing
}

fn ended(outcome: JobOutcome, event: JobEvent, cx: &mut Context<'_>) -> JobState {
    match event {
        JobEvent::Reported(worker, report) => ending::refuse_stranger(worker, report, cx),
        JobEvent::DataPrepared(_)
        | JobEvent::DataFailed(_)
        | JobEvent::WorkerCame(..)
        | JobEvent::WorkerGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::LedgerFailed(..)
        | JobEvent::CancelRequested
        | JobEvent::ScaleRequested(_)
        | JobEvent::Tick => {}
    }
    JobState::Ended(outcome)
}
