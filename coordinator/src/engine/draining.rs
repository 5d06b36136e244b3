//! Draining: the last step is committed; members apply it and one writes the final checkpoint.

use std::fmt;
use std::sync::Arc;

use weft_common::id::{Step, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{self, AppliedReport, CheckpointRef, ErrorKind, RejectReason};

use super::applied::{AppliedVerdict, Applying};
use super::checkpoints::CheckpointBook;
use super::context::Context;
use super::ending;
use super::job::{JobEvent, JobState, RunData};
use super::loss::{AtLoss, Loss, member_lost};
use super::members::Members;
use super::outcome::{FailReason, JobOutcome};
use super::running::Running;
use super::terms::JobTerms;

/// A job that writes its final checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Draining {
    /// What was computed.
    pub data: Arc<RunData>,
    /// By whom.
    pub members: Members,
    /// Why it ends.
    pub cause: DrainCause,
    /// Committed steps.
    pub next_step: Step,
    /// The last step, until every member has applied it.
    pub applying: Option<Applying>,
    /// Its checkpoints.
    pub checkpoints: CheckpointBook,
    /// Since when.
    pub since: Timestamp,
}

/// Why a job ends after the step in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainCause {
    /// Every step is committed.
    Finished,
    /// Someone asked.
    Cancelled,
    /// It cannot go on, but it can finish the step.
    Failed(FailReason),
}

impl fmt::Display for DrainCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("all steps are committed"),
            Self::Cancelled => f.write_str("cancelled: finishing the step, then a checkpoint"),
            Self::Failed(reason) => {
                write!(f, "{reason}: finishing the step, then a checkpoint")
            }
        }
    }
}

impl Draining {
    /// Asks for the final checkpoint, right behind the last commit.
    pub(super) fn begin(
        terms: &JobTerms,
        running: Running,
        next_step: Step,
        cause: DrainCause,
        cx: &mut Context<'_>,
    ) -> JobState {
        let mut draining = Self {
            data: running.data,
            members: running.members,
            cause,
            next_step,
            applying: running.applying,
            checkpoints: running.checkpoints,
            since: cx.now,
        };
        let last = terms.checkpoint_at(next_step);
        draining.checkpoints.take(last, &draining.members, cx);
        JobState::Draining(Box::new(draining))
    }

    pub(super) fn step(
        self: Box<Self>,
        terms: &JobTerms,
        event: JobEvent,
        cx: &mut Context<'_>,
    ) -> JobState {
        match event {
            JobEvent::Reported(worker, report) => self.reported(terms, worker, report, cx),
            JobEvent::WorkerGone(loss) => self.worker_gone(terms, loss, cx),
            JobEvent::Tick => self.tick(terms, cx),
            JobEvent::DataPrepared(_)
            | JobEvent::DataFailed(_)
            | JobEvent::WorkerAttached(_)
            | JobEvent::LedgerDurable(_)
            | JobEvent::LedgerFailed(..)
            | JobEvent::CancelRequested => JobState::Draining(self),
        }
    }

    fn reported(
        mut self: Box<Self>,
        terms: &JobTerms,
        worker: WorkerId,
        report: wire::Event,
        cx: &mut Context<'_>,
    ) -> JobState {
        match report {
            wire::Event::Applied(applied) => self.applied(terms, worker, &applied, cx),
            wire::Event::CheckpointWritten(written) => {
                self.checkpoints.written(written, cx);
                self.proceed(terms, cx)
            }
            wire::Event::CheckpointFailed(failed) => {
                let last = failed.checkpoint.next_step == self.next_step;
                if self.checkpoints.failed(failed.clone(), cx) && last {
                    return self.unsaved(terms, failed.kind, failed.message, cx);
                }
                self.proceed(terms, cx)
            }
            wire::Event::Failed(failed) => {
                let named = self.members.get(worker).map(|member| member.name.clone());
                match named {
                    Some(name) if &failed.membership == self.members.membership() => {
                        let reason = FailReason::WorkerFailed {
                            worker: Box::new(name),
                            kind: failed.kind,
                            message: failed.message,
                        };
                        ending::fail(terms, reason, self.checkpoints.complete, cx)
                    }
                    Some(_) | None => JobState::Draining(self),
                }
            }
            report @ (wire::Event::SlotDone(_) | wire::Event::Reduced(_)) => {
                ending::refuse(worker, report, RejectReason::Phase, cx);
                JobState::Draining(self)
            }
            wire::Event::Heartbeat(_)
            | wire::Event::Prepared(_)
            | wire::Event::EpochReady(_)
            | wire::Event::Leave { .. } => JobState::Draining(self),
        }
    }

    fn applied(
        mut self: Box<Self>,
        terms: &JobTerms,
        worker: WorkerId,
        report: &AppliedReport,
        cx: &mut Context<'_>,
    ) -> JobState {
        let Some(applying) = self.applying.take() else {
            cx.reject(worker, report.round.clone(), RejectReason::Phase);
            return JobState::Draining(self);
        };
        if let Err(reason) = applying.fence(worker, report, &self.members) {
            cx.reject(worker, report.round.clone(), reason);
            self.applying = Some(applying);
            return JobState::Draining(self);
        }
        match applying.take(worker, report, &self.members, cx) {
            AppliedVerdict::Open(applying) => self.applying = Some(applying),
            AppliedVerdict::Agreed(_) => {}
            AppliedVerdict::Split(reason) => {
                return ending::fail(terms, reason, self.checkpoints.complete, cx);
            }
        }
        self.proceed(terms, cx)
    }

    /// Takes the final checkpoint once the disk is free; ends the job once it is complete and everybody has applied.
    fn proceed(mut self: Box<Self>, terms: &JobTerms, cx: &mut Context<'_>) -> JobState {
        let last = terms.checkpoint_at(self.next_step);
        if self.checkpoints.due {
            self.checkpoints.take(last.clone(), &self.members, cx);
        }
        if self.applying.is_some() || self.checkpoints.complete.as_ref() != Some(&last) {
            return JobState::Draining(self);
        }
        self.end(terms, last, cx)
    }

    fn end(
        self: Box<Self>,
        terms: &JobTerms,
        checkpoint: CheckpointRef,
        cx: &mut Context<'_>,
    ) -> JobState {
        let outcome = match self.cause {
            DrainCause::Finished => JobOutcome::Succeeded {
                steps: self.next_step.0,
                checkpoint,
            },
            DrainCause::Cancelled => JobOutcome::Cancelled {
                checkpoint: Some(checkpoint),
            },
            DrainCause::Failed(reason) => JobOutcome::Failed {
                reason,
                checkpoint: Some(checkpoint),
            },
        };
        ending::end(terms, outcome, cx)
    }

    fn unsaved(
        self: Box<Self>,
        terms: &JobTerms,
        kind: ErrorKind,
        message: String,
        cx: &mut Context<'_>,
    ) -> JobState {
        let reason = FailReason::Checkpoint { kind, message };
        ending::fail(terms, reason, self.checkpoints.complete, cx)
    }

    fn worker_gone(
        self: Box<Self>,
        terms: &JobTerms,
        loss: Loss,
        cx: &mut Context<'_>,
    ) -> JobState {
        if self.members.get(loss.worker).is_none() {
            return JobState::Draining(self);
        }
        let at = AtLoss {
            members: &self.members,
            step: Step(self.next_step.0.saturating_sub(1)),
            slot: None,
            checkpoint: self.checkpoints.complete.clone(),
        };
        member_lost(terms, loss, at, cx)
    }

    fn tick(self: Box<Self>, terms: &JobTerms, cx: &mut Context<'_>) -> JobState {
        let waited = cx.now.since(self.since);
        if waited < cx.limits.drain_within {
            return JobState::Draining(self);
        }
        let message = format!(
            "not complete after {:.0} s; check the disk of {}",
            waited.as_secs_f64(),
            terms.checkpoints_dir.display()
        );
        self.unsaved(terms, ErrorKind::Storage, message, cx)
    }
}
