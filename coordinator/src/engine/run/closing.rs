//! Checkpoints on the way, and the end: nothing is left to compute, and one member writes the final state.

use std::fmt;
use std::time::Duration;

use weft_common::wire::{Command, ErrorKind, TakeCheckpoint};

use super::super::action::Notice;
use super::super::context::Context;
use super::super::outcome::{FailReason, JobOutcome};
use super::super::terms::JobTerms;
use super::{Flow, Run};

/// Between attempts to write the final checkpoint.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why a job ends after the step in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainCause {
    /// Someone asked.
    Cancelled,
}

impl fmt::Display for DrainCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled: finishing the step, then a checkpoint"),
        }
    }
}

impl Run {
    /// Stops after the step in hand. The first cause counts.
    pub(super) fn stop_after_step(&mut self, cause: DrainCause, cx: &mut Context<'_>) {
        if self.drain.is_none() {
            cx.notify(Notice::Draining(cause.to_string()));
            self.drain = Some(cause);
        }
    }

    /// Takes a checkpoint that is due, once the one before is done.
    pub(super) fn save(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        if self.checkpoints.due && self.checkpoints.has(self.committed) {
            self.checkpoints.due = false;
        }
        if self.checkpoints.due && !self.is_decided() {
            self.take_checkpoint(terms, cx);
        }
    }

    /// Asks a member for a checkpoint of the present state, unless one is being written or it is there: whoever reads it
    /// must not find it being written again. Every member could write it.
    pub(super) fn take_checkpoint(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        let Some(writer) = self.writer() else {
            return;
        };
        if self.checkpoints.in_flight.is_some() || self.checkpoints.has(self.committed) {
            return;
        }
        let checkpoint = terms.checkpoint_at(self.committed);
        let command = Command::TakeCheckpoint(TakeCheckpoint {
            membership: self.members.membership().clone(),
            checkpoint: checkpoint.clone(),
            world: self.members.world_u32(),
        });
        self.checkpoints.begun(checkpoint, writer, cx.now);
        cx.send(writer, command);
    }

    /// Ends the job once nothing is left to compute, everybody has applied the last step and its state is saved.
    pub(super) fn close(&mut self, terms: &JobTerms, cx: &mut Context<'_>) -> Flow {
        self.give_up_step(terms);
        if !self.is_closing() {
            return Flow::Continue(());
        }
        let since = *self.closing_since.get_or_insert(cx.now);
        if self.checkpoints.has(self.committed) {
            return match self.applying {
                None => Flow::Break(self.outcome()),
                Some(_) => Flow::Continue(()),
            };
        }
        if self.live_count() == 0 {
            return match self.drain {
                Some(DrainCause::Cancelled) => Flow::Break(self.outcome()),
                None => Flow::Continue(()),
            };
        }
        let waited = cx.now.since(since);
        match self.checkpoints.failed.clone() {
            Some(failed) if failed.checkpoint.next_step == self.committed => {
                if waited >= cx.limits.save_again_within {
                    return self.unsaved(failed.kind, failed.message);
                }
                if cx.now.since(self.checkpoints.failed_at) < SAVE_AGAIN_AFTER {
                    return Flow::Continue(());
                }
            }
            Some(_) | None => {}
        }
        self.take_checkpoint(terms, cx);
        if waited >= cx.limits.drain_within {
            let (seconds, dir) = (waited.as_secs_f64(), terms.checkpoints_dir.display());
            let message = format!("not complete after {seconds:.0} s; check the disk of {dir}");
            return self.unsaved(ErrorKind::Storage, message);
        }
        Flow::Continue(())
    }

    /// A job that is to end does not wait for workers to finish a step.
    fn give_up_step(&mut self, terms: &JobTerms) {
        let unlikely = self.is_short(terms) && !self.is_decided();
        if self.drain.is_some() && unlikely {
            self.round = None;
        }
    }

    fn outcome(&self) -> JobOutcome {
        let checkpoint = self.checkpoints.complete.clone();
        match (checkpoint, self.is_finished()) {
            (Some(checkpoint), true) if checkpoint.next_step == self.committed => {
                JobOutcome::Succeeded {
                    steps: self.committed.0,
                    checkpoint,
                }
            }
            (checkpoint, _) => JobOutcome::Cancelled { checkpoint },
        }
    }

    fn unsaved(&self, kind: ErrorKind, message: String) -> Flow {
        self.fail(FailReason::Checkpoint { kind, message })
    }
}
