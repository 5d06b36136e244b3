//! One job's life.
//!
//! ```text
//! submitted ─► Preparing ─► Forming(epoch) ─► Running ─► Draining ─► Ended: Succeeded | Failed | Cancelled
//!                 │             │    ▲          │                      ▲
//!                 │             │    └ ─ ─ ─ ─ ─┤ (Reforming: the      │
//!                 └─────────────┴───────────────┴  same decision) ─────┘
//! ```
//!
//! Every way out of a healthy membership goes through one decision, [`member_lost`](super::loss::member_lost). It ends
//! the job; a decision that forms the next epoch instead goes back to Forming with the members that are left.

use std::sync::Arc;

use weft_common::id::{Step, WorkerId};
use weft_common::plan::{LrSchedule, StepPlanner};
use weft_common::wire::{self, DatasetRef};

use super::action::Action;
use super::context::Context;
use super::draining::Draining;
use super::ending;
use super::forming::Forming;
use super::loss::Loss;
use super::outcome::{FailReason, JobOutcome};
use super::running::Running;
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
    /// It waits for its members.
    Forming(Forming),
    /// Steps are computed and committed.
    Running(Box<Running>),
    /// The last step is committed; the final checkpoint is being written.
    Draining(Box<Draining>),
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
    /// A worker can be talked to.
    WorkerAttached(WorkerId),
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
    /// Time passed.
    Tick,
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
            JobState::Forming(forming) => forming.step(&terms, event, cx),
            JobState::Running(running) => running.step(&terms, event, cx),
            JobState::Draining(draining) => draining.step(&terms, event, cx),
            JobState::Ended(outcome) => ended(outcome, event, cx),
        };
        Self { terms, state }
    }
}

fn preparing(terms: &JobTerms, event: JobEvent, cx: &mut Context<'_>) -> JobState {
    match event {
        JobEvent::DataPrepared(data) => Forming::begin(terms, data, cx),
        JobEvent::DataFailed(message) => {
            let reason = FailReason::Data { message };
            ending::fail(terms, reason, terms.resume.clone(), cx)
        }
        JobEvent::CancelRequested => ending::cancelled(terms, terms.resume.clone(), cx),
        JobEvent::Reported(worker, report) => {
            ending::refuse_stranger(worker, report, cx);
            JobState::Preparing
        }
        JobEvent::WorkerAttached(_)
        | JobEvent::WorkerGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::LedgerFailed(..)
        | JobEvent::Tick => JobState::Preparing,
    }
}

fn ended(outcome: JobOutcome, event: JobEvent, cx: &mut Context<'_>) -> JobState {
    match event {
        JobEvent::Reported(worker, report) => ending::refuse_stranger(worker, report, cx),
        JobEvent::DataPrepared(_)
        | JobEvent::DataFailed(_)
        | JobEvent::WorkerAttached(_)
        | JobEvent::WorkerGone(_)
        | JobEvent::LedgerDurable(_)
        | JobEvent::LedgerFailed(..)
        | JobEvent::CancelRequested
        | JobEvent::Tick => {}
    }
    JobState::Ended(outcome)
}
