//! A job as people see it from outside.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_common::id::JobId;
use weft_proto::v1;

use crate::config::JobSpec;
use crate::engine::{
    Job, JobOutcome, JobState, JobTerms, Needs, Notice, Run, StepReport, WaitReason,
};

/// A job as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// What people call it; may be empty.
    pub name: String,
    /// Where it stands.
    pub phase: JobPhase,
    /// How it ended, where this coordinator saw it.
    pub outcome: Option<JobOutcome>,
    /// How it ended, in words; empty before.
    pub detail: String,
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
    /// What its workers must be.
    pub needs: Needs,
    /// Why it waits, where it does, or what else someone should know of.
    pub waits: Option<String>,
    /// Where its results go, on the coordinator's host.
    pub output_dir: PathBuf,
    /// Steps between two lines of progress.
    pub logging_steps: u64,
    /// When it was handed in, in milliseconds since 1970.
    pub submitted_unix_ms: i64,
    /// When its turn came.
    pub started_unix_ms: Option<i64>,
    /// When it was over.
    pub ended_unix_ms: Option<i64>,
    /// Mean loss of the last committed step.
    pub loss: Option<f64>,
    /// Of the last committed step; 0 before the first.
    pub tokens_per_second: f64,
    /// Members lost so far.
    pub incidents: u32,
}

/// What a later coordinator should find in the records, but for what changes with every step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    over: bool,
    workers: u32,
    total_steps: u64,
    started_unix_ms: Option<i64>,
    incidents: u32,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl JobPhase {
    /// Whether the job is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Preparing | Self::Forming | Self::Running | Self::Draining => {
                false
            }
        }
    }

    /// As it is called in the records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Forming => "forming",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The phase of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Queued,
            Self::Preparing,
            Self::Forming,
            Self::Running,
            Self::Draining,
            Self::Succeeded,
            Self::Failed,
            Self::Cancelled,
        ];
        all.into_iter().find(|phase| phase.name() == name)
    }

    fn of(outcome: &JobOutcome) -> Self {
        match outcome {
            JobOutcome::Succeeded { .. } => Self::Succeeded,
            JobOutcome::Failed { .. } => Self::Failed,
            JobOutcome::Cancelled { .. } => Self::Cancelled,
        }
    }
}

impl JobView {
    /// A job that was handed in at `unix_ms` and waits for its turn.
    pub(crate) fn submitted(spec: &JobSpec, unix_ms: i64) -> Self {
        let bounds = spec.recipe.worker_bounds();
        Self {
            id: spec.id.clone(),
            name: spec.name.clone(),
            phase: JobPhase::Queued,
            outcome: None,
            detail: String::new(),
            committed_steps: spec.resume.as_ref().map_or(0, |from| from.next_step.0),
            total_steps: 0,
            members: 0,
            workers: spec.workers,
            min_workers: *bounds.start(),
            max_workers: *bounds.end(),
            priority: spec.priority,
            needs: spec.needs.clone(),
            waits: Some(waits_for_its_turn(*bounds.start())),
            output_dir: spec.output_dir.clone(),
            logging_steps: spec.recipe.training.logging_steps,
            submitted_unix_ms: unix_ms,
            started_unix_ms: None,
            ended_unix_ms: None,
            loss: None,
            tokens_per_second: 0.0,
            incidents: 0,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            over: self.phase.is_over(),
            workers: self.workers,
            total_steps: self.total_steps,
            started_unix_ms: self.started_unix_ms,
            incidents: self.incidents,
        }
    }

    /// A job that cannot be handed in again, and is over.
    pub(crate) fn given_up(self, reason: &str, unix_ms: i64) -> Self {
        Self {
            phase: JobPhase::Failed,
            detail: format!("failed: it could not be handed in again: {reason}"),
            ended_unix_ms: Some(unix_ms),
            ..self
        }
    }

    /// It is over but for its results.
    pub(crate) fn ending(&mut self) {
        self.phase = JobPhase::Draining;
        self.members = 0;
        self.waits = None;
    }

    /// Takes in how the job stands. How it ended is told by a notice.
    pub(crate) fn stands(&mut self, job: &Job) {
        self.workers = job.terms.workers;
        match &job.state {
            JobState::Queued => {
                self.phase = JobPhase::Queued;
                self.waits = Some(waits_for_its_turn(job.terms.min_workers));
            }
            JobState::Preparing => {
                self.phase = JobPhase::Preparing;
                self.waits = None;
            }
            JobState::Active(run) => self.runs(run, &job.terms),
            JobState::Ended(_) => {}
        }
    }

    fn runs(&mut self, run: &Run, terms: &JobTerms) {
        self.phase = if run.is_closing() || run.drain.is_some() {
            JobPhase::Draining
        } else if run.is_short(terms) {
            JobPhase::Forming
        } else {
            JobPhase::Running
        };
        self.committed_steps = run.committed.0;
        self.total_steps = run.data.total_steps();
        self.members = u32::try_from(run.live_count()).unwrap_or(u32::MAX);
        let waits = run.waiting.as_ref().map(ToString::to_string);
        self.waits = waits.or_else(|| run.age.alarm.map(|alarm| alarm.to_string()));
    }

    /// Takes in what people are told at `unix_ms`.
    pub(crate) fn told(&mut self, notice: &Notice, unix_ms: i64) {
        match notice {
            Notice::Admitted => {
                self.started_unix_ms.get_or_insert(unix_ms);
            }
            Notice::StepCommitted(step) => self.stepped(step),
            Notice::MemberLost(_) => self.incidents = self.incidents.saturating_add(1),
            Notice::Ended(outcome) => self.ended(outcome, unix_ms),
            Notice::Planned { .. }
            | Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Waiting(_)
            | Notice::EpochFormed(_)
            | Notice::RolledBack { .. }
            | Notice::CheckpointSaved { .. }
            | Notice::CheckpointFailed { .. }
            | Notice::CheckpointOverdue(_)
            | Notice::GpuSick { .. }
            | Notice::GpuConcern { .. }
            | Notice::Draining(_) => {}
        }
    }

    fn stepped(&mut self, step: &StepReport) {
        let seconds = step.timing.total.as_secs_f64();
        self.loss = Some(step.loss);
        self.tokens_per_second = step.tokens as f64 / seconds.max(f64::EPSILON);
    }

    fn ended(&mut self, outcome: &JobOutcome, unix_ms: i64) {
        if let JobOutcome::Succeeded { steps, .. } = outcome {
            self.committed_steps = *steps;
            self.total_steps = *steps;
        }
        self.phase = JobPhase::of(outcome);
        self.detail = outcome.to_string();
        self.outcome = Some(outcome.clone());
        self.ended_unix_ms = Some(unix_ms);
        self.members = 0;
        self.waits = None;
    }
}

fn waits_for_its_turn(min_workers: u32) -> String {
    let needed = min_workers.max(1);
    WaitReason::Turn { needed }.to_string()
}

impl From<JobPhase> for v1::JobPhase {
    fn from(phase: JobPhase) -> Self {
        match phase {
            JobPhase::Queued => Self::Queued,
            JobPhase::Preparing => Self::Preparing,
            JobPhase::Forming => Self::Forming,
            JobPhase::Running => Self::Running,
            JobPhase::Draining => Self::Draining,
            JobPhase::Succeeded => Self::Succeeded,
            JobPhase::Failed => Self::Failed,
            JobPhase::Cancelled => Self::Cancelled,
        }
    }
}

impl From<JobView> for v1::Job {
    fn from(view: JobView) -> Self {
        Self {
            id: view.id.to_string(),
            phase: v1::JobPhase::from(view.phase).into(),
            detail: view.detail,
            committed_steps: view.committed_steps,
            total_steps: view.total_steps,
            members: view.members,
            workers: view.workers,
            min_workers: view.min_workers,
            priority: view.priority,
            waits: view.waits.unwrap_or_default(),
            name: view.name,
            max_workers: view.max_workers,
            submitted_unix_ms: view.submitted_unix_ms,
            started_unix_ms: view.started_unix_ms.unwrap_or_default(),
            ended_unix_ms: view.ended_unix_ms.unwrap_or_default(),
            output_dir: view.output_dir.to_string_lossy().into_owned(),
            loss: view.loss,
            tokens_per_second: view.tokens_per_second,
            incidents: view.incidents,
            logging_steps: view.logging_steps,
            worker_memory_bytes: view.needs.memory_bytes,
            worker_labels: view.needs.labels.into_iter().collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A job that waits for its turn.
    pub(crate) fn view(id: &str) -> JobView {
        JobView {
            id: id.parse().unwrap(),
            name: "a name".to_owned(),
            phase: JobPhase::Queued,
            outcome: None,
            detail: String::new(),
            committed_steps: 0,
            total_steps: 0,
            members: 0,
            workers: 2,
            min_workers: 1,
            max_workers: 4,
            priority: 3,
            needs: Needs::default(),
            waits: None,
            output_dir: PathBuf::from("/out").join(id),
            logging_steps: 1,
            submitted_unix_ms: 1_000,
            started_unix_ms: None,
            ended_unix_ms: None,
            loss: None,
            tokens_per_second: 0.0,
            incidents: 0,
        }
    }

    #[test]
    fn the_end_of_a_job_keeps_how_far_it_got() {
        let mut job = view("job-1");
        (job.committed_steps, job.total_steps) = (7, 10);
        job.told(
            &Notice::Ended(JobOutcome::Cancelled { checkpoint: None }),
            5_000,
        );
        assert_eq!(
            (job.phase, job.committed_steps, job.total_steps),
            (JobPhase::Cancelled, 7, 10)
        );
        assert_eq!(job.ended_unix_ms, Some(5_000));
        assert!(job.detail.starts_with("cancelled"), "{}", job.detail);
    }
}
