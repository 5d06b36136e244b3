//! A job as people see it from outside.

use weft_common::id::JobId;
use weft_proto::v1;

use crate::engine::{Job, JobOutcome, JobState};

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
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPhase {
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

impl JobView {
    pub(crate) fn of(job: &Job) -> Self {
        let blank = Self {
            id: job.terms.id.clone(),
            phase: JobPhase::Preparing,
            outcome: None,
            committed_steps: job.terms.start().0,
            total_steps: 0,
            members: 0,
        };
        match &job.state {
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
                members: u32::try_from(run.live().len()).unwrap_or(u32::MAX),
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

impl From<JobView> for v1::Job {
    fn from(view: JobView) -> Self {
        let phase = match view.phase {
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
        }
    }
}
