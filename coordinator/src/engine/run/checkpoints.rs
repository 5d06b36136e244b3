//! Which checkpoints are complete, being written, or due.

use std::time::Duration;

use weft_common::id::{Step, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{CheckpointFailed, CheckpointRef, CheckpointWritten, ErrorKind};

use super::super::action::Notice;
use super::super::context::Context;
use super::Run;

/// The checkpoints of one job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CheckpointBook {
    /// The newest complete one.
    pub complete: Option<CheckpointRef>,
    /// The one being written. One at a time: a slow disk delays the next instead of piling them up.
    pub in_flight: Option<InFlight>,
    /// Whether one is to be taken at the next chance.
    pub due: bool,
    /// The last one that could not be written, until a later one could.
    pub failed: Option<CheckpointFailed>,
    /// When that was.
    pub failed_at: Timestamp,
    /// Who took too long for the last one that could not be written.
    pub slow_writer: Option<WorkerId>,
}

/// A checkpoint that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Which.
    pub checkpoint: CheckpointRef,
    /// Who writes it.
    pub writer: WorkerId,
    /// Since when.
    pub since: Timestamp,
}

impl CheckpointBook {
    /// Nothing to do, and `complete` to resume from.
    #[must_use]
    pub fn starting_with(complete: Option<CheckpointRef>) -> Self {
        Self {
            complete,
            ..Self::default()
        }
    }

    /// Whether the state before `step` is complete on disk.
    #[must_use]
    pub fn has(&self, step: Step) -> bool {
        let complete = self.complete.as_ref();
        complete.is_some_and(|complete| complete.next_step == step)
    }

    /// Whether the state before `step` is being written.
    #[must_use]
    pub fn is_writing(&self, step: Step) -> bool {
        let writing = self.in_flight.as_ref();
        writing.is_some_and(|writing| writing.checkpoint.next_step == step)
    }

    /// Whether the state before `step` could not be written.
    #[must_use]
    pub fn has_failed(&self, step: Step) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|failed| failed.checkpoint.next_step == step)
    }

    /// Notes that a worker was asked to write.
    pub fn begun(&mut self, checkpoint: CheckpointRef, writer: WorkerId, now: Timestamp) {
        self.due = false;
        self.in_flight = Some(InFlight {
            checkpoint,
            writer,
            since: now,
        });
    }

    /// A worker is gone: what it was writing is due again.
    pub fn writer_gone(&mut self, worker: WorkerId) {
        let gone = self.in_flight.take_if(|writing| writing.writer == worker);
        self.due |= gone.is_some();
    }

    /// Waits no longer for a checkpoint that has been in the writing for `within`; who writes it.
    fn give_up(&mut self, within: Duration, now: Timestamp) -> Option<InFlight> {
        let late = |writing: &mut InFlight| now.since(writing.since) >= within;
        let late = self.in_flight.take_if(late)?;
        self.slow_writer = Some(late.writer);
        Some(late)
    }

    /// Takes note of a complete checkpoint; whether somebody waited for it. Otherwise nothing changes.
    pub fn written(
        &mut self,
        worker: WorkerId,
        written: CheckpointWritten,
        cx: &mut Context<'_>,
    ) -> bool {
        let awaited = self.settle(worker, &written.checkpoint);
        if awaited {
            self.complete = Some(written.checkpoint.clone());
            self.failed = None;
            self.slow_writer = None;
            cx.notify(Notice::CheckpointSaved {
                checkpoint: written.checkpoint,
                bytes: written.bytes,
                elapsed: written.elapsed,
            });
        }
        awaited
    }

    /// Takes note of a checkpoint that could not be written; training goes on.
    pub fn not_written(
        &mut self,
        worker: WorkerId,
        failed: CheckpointFailed,
        cx: &mut Context<'_>,
    ) {
        if self.settle(worker, &failed.checkpoint) {
            self.has_not(failed, cx);
        }
    }

    fn has_not(&mut self, failed: CheckpointFailed, cx: &mut Context<'_>) {
        cx.notify(Notice::CheckpointFailed {
            checkpoint: failed.checkpoint.clone(),
            message: failed.message.clone(),
        });
        self.failed = Some(failed);
        self.failed_at = cx.now;
    }

    fn settle(&mut self, worker: WorkerId, checkpoint: &CheckpointRef) -> bool {
        let awaited = self
            .in_flight
            .take_if(|writing| writing.writer == worker && &writing.checkpoint == checkpoint);
        awaited.is_some()
    }
}

impl Run {
    /// A checkpoint that takes too long counts as one that could not be written. Another member writes the next.
    pub(super) fn give_up_saving(&mut self, cx: &mut Context<'_>) {
        let within = cx.limits.save_within;
        if let Some(late) = self.checkpoints.give_up(within, cx.now) {
            let message = format!(
                "{} has not written it within {:.0} s; check its disk and its way to the storage",
                self.name(late.writer, cx),
                within.as_secs_f64()
            );
            let failed = CheckpointFailed {
                membership: self.members.membership().clone(),
                checkpoint: late.checkpoint,
                kind: ErrorKind::Storage,
                message,
            };
            self.checkpoints.has_not(failed, cx);
        }
    }

    /// Who writes the next checkpoint: any member could, and one that stays is better than one that is about to leave or
    /// took too long for the last one.
    pub(super) fn writer(&self) -> Option<WorkerId> {
        let (staying, live) = (self.staying(), self.live());
        let slow = self.checkpoints.slow_writer;
        let quick = staying.iter().find(|worker| Some(**worker) != slow);
        quick.or(staying.first()).or(live.first()).copied()
    }
}
