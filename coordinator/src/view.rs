//! A job as people see it from outside.

use std::net::IpAddr;

use weft_common::id::{JobId, WorkerId};
use weft_common::wire::{Heartbeat, WorkerFacts};
use weft_proto::v1;

use crate::engine::{Job, JobOutcome, JobState, JobTerms, WorkerRecord};

/// A job as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub phase: JobPhase,
    /// How it ended.
    pub outcome: Option<JobOutcome>,
    /// Committed steps.
    pub committed_steps: u64,
    /// Steps of the whole job; 0 until the data is prepared.
    pub total_steps: u64,
    /// Members of the present epoch.
    pub members: u32,
    /// Workers that it wants.
    pub workers: u32,
    /// Workers that it needs.
    pub min_workers: u32,
    /// Workers that it can be scaled to.
    pub max_workers: u32,
    /// Jobs of a higher one come first.
    pub priority: i32,
    /// Why it waits, where it does.
    pub waits: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPhase {
    /// It waits for its turn.
    Queued,
    /// Its dataset is being prepared.
    Preparing,
    /// It waits for its members.
    Forming,
    /// Steps are computed.
    Running,
    /// The final checkpoint is being written.
    Draining,
    /// Every step is committed.
    Succeeded,
    /// It could not go on.
    Failed,
    /// Someone asked for it to end.
    Cancelled,
}

/// A worker as people see it from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    /// Which.
    pub worker: WorkerId,
    /// What it said of itself.
    pub facts: WorkerFacts,
    /// Where it was seen to come from.
    pub ip: IpAddr,
    /// The job it works for.
    pub job: Option<JobId>,
    /// Its last sign of life.
    pub heartbeat: Heartbeat,
}

impl WorkerView {
    pub(crate) fn of((worker, record): (WorkerId, &WorkerRecord)) -> Self {
        Self {
            worker,
            facts: record.facts.clone(),
            ip: record.ip,
            job: record.job.clone(),
            heartbeat: record.heartbeat,
        }
    }
}

impl JobView {
    /// A job that waits for its turn.
    pub(crate) fn submitted(terms: &JobTerms) -> Self {
        Self::of(&Job::submitted(terms.clone()))
    }

    pub(crate) fn of(job: &Job) -> Self {
        let blank = Self {
            id: job.terms.id.clone(),
            phase: JobPhase::Preparing,
            outcome: None,
            committed_steps: job.terms.start().0,
            total_steps: 0,
            members: 0,
            workers: job.terms.workers,
            min_workers: job.terms.min_workers,
            max_workers: job.terms.max_workers,
            priority: job.terms.priority,
            waits: None,
        };
        match &job.state {
            JobState::Queued => Self {
                phase: JobPhase::Queued,
                waits: Some("jobs that come first have the workers".to_owned()),
                ..blank
            },
            JobState::Preparing => blank,
            JobState::Active(run) => Self {
                phase: if run.is_closing() || run.drain.is_some() {
                    JobPhase::Draining
                } else if run.is_short(&job.terms) {
                    JobPhase::Forming
                } else {
                    JobPhase::Running
                },
                committed_steps: run.committed.0,
                total_steps: run.data.total_steps(),
                members: u32::try_from(run.live_count()).unwrap_or(u32::MAX),
                waits: run.waiting.as_ref().map(ToString::to_string),
                ..blank
            },
            JobState::Ended(outcome) => Self {
                phase: phase_of(outcome),
                outcome: Some(outcome.clone()),
                ..blank
            },
        }
    }

    /// Keeps what the end of a job does not say.
    pub(crate) fn after(self, before: &Self) -> Self {
        if self.outcome.is_none() || before.id != self.id {
            return self;
        }
        Self {
            committed_steps: before.committed_steps,
            total_steps: before.total_steps,
            ..self
        }
    }
}

fn phase_of(outcome: &JobOutcome) -> JobPhase {
    match outcome {
        JobOutcome::Succeeded { .. } => JobPhase::Succeeded,
        JobOutcome::Failed { .. } => JobPhase::Failed,
        JobOutcome::Cancelled { .. } => JobPhase::Cancelled,
    }
}

impl From<WorkerView> for v1::WorkerInfo {
    fn from(view: WorkerView) -> Self {
        Self {
            worker: view.worker.to_string(),
            host: view.facts.host,
            device: view.facts.device,
            memory_bytes: view.facts.memory_bytes,
            labels: view.facts.labels.into_iter().collect(),
            ip: view.ip.to_string(),
            job: view.job.map(|job| job.to_string()).unwrap_or_default(),
            slots_computed: view.heartbeat.slots_computed,
            peak_resident_bytes: view.heartbeat.peak_resident_bytes,
        }
    }
}

impl From<JobView> for v1::Job {
    fn from(view: JobView) -> Self {
        let phase = match view.phase {
            JobPhase::Queued => v1::JobPhase::Queued,
            JobPhase::Preparing => v1::JobPhase::Preparing,
            JobPhase::Forming => v1::JobPhase::Forming,
            JobPhase::Running => v1::JobPhase::Running,
            JobPhase::Draining => v1::JobPhase::Draining,
            JobPhase::Succeeded => v1::JobPhase::Succeeded,
            JobPhase::Failed => v1::JobPhase::Failed,
            JobPhase::Cancelled => v1::JobPhase::Cancelled,
        };
        Self {
            id: view.id.to_string(),
            phase: phase.into(),
            detail: view.outcome.map(|o| o.to_string()).unwrap_or_default(),
            committed_steps: view.committed_steps,
            total_steps: view.total_steps,
            members: view.members,
            workers: view.workers,
            min_workers: view.min_workers,
            priority: view.priority,
            waits: view.waits.unwrap_or_default(),
            max_workers: view.max_workers,
            ..Self::default()
        }
    }
}
