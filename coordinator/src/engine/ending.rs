//! How every job ends: workers are released, people are told.

use weft_common::id::{Epoch, WorkerId};
use weft_common::wire::{self, CheckpointRef, Command, EndJob, Membership, RejectReason, Round};

use super::action::Notice;
use super::context::Context;
use super::job::JobState;
use super::outcome::{FailReason, JobOutcome};
use super::terms::JobTerms;

/// Ends the job with an error.
pub(super) fn fail(
    terms: &JobTerms,
    reason: FailReason,
    checkpoint: Option<CheckpointRef>,
    cx: &mut Context<'_>,
) -> JobState {
    end(terms, JobOutcome::Failed { reason, checkpoint }, cx)
}

/// Ends the job because someone asked.
pub(super) fn cancelled(
    terms: &JobTerms,
    checkpoint: Option<CheckpointRef>,
    cx: &mut Context<'_>,
) -> JobState {
    end(terms, JobOutcome::Cancelled { checkpoint }, cx)
}

/// Ends the job: its workers return to standby.
pub(super) fn end(terms: &JobTerms, outcome: JobOutcome, cx: &mut Context<'_>) -> JobState {
    let command = Command::EndJob(EndJob {
        membership: unformed(terms, cx),
        outcome: outcome.to_string(),
    });
    let workers = cx.fleet.of(&terms.id);
    cx.send_all(&workers, &command);
    cx.fleet.free(&terms.id);
    cx.notify(Notice::Ended(outcome.clone()));
    JobState::Ended(outcome)
}

/// The job before its first epoch, or whatever its epoch.
pub(super) fn unformed(terms: &JobTerms, cx: &Context<'_>) -> Membership {
    Membership {
        job: terms.id.clone(),
        term: cx.term,
        epoch: Epoch(0),
    }
}

/// Answers someone that no membership knows: a leave is granted, work refused. Other reports have no consequence and need
/// no answer.
pub(super) fn refuse_stranger(worker: WorkerId, report: wire::Event, cx: &mut Context<'_>) {
    if let wire::Event::Leave { reason } = report {
        cx.send(worker, Command::Shutdown { reason });
    } else if let Some(round) = round_of(report) {
        cx.reject(worker, round, RejectReason::Job);
    }
}

fn round_of(report: wire::Event) -> Option<Round> {
    match report {
        wire::Event::SlotDone(report) => Some(report.round),
        wire::Event::Reduced(report) => Some(report.round),
        wire::Event::Applied(report) => Some(report.round),
        wire::Event::Heartbeat(_)
        | wire::Event::Prepared(_)
        | wire::Event::SyncFailed(_)
        | wire::Event::CheckpointWritten(_)
        | wire::Event::CheckpointFailed(_)
        | wire::Event::Failed(_)
        | wire::Event::Leave { .. } => None,
    }
}
