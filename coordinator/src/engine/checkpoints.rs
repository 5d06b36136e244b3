//! Which checkpoints are complete, being written, or due.

use weft_common::time::Timestamp;
use weft_common::wire::{
    CheckpointFailed, CheckpointRef, CheckpointWritten, Command, TakeCheckpoint,
};

use super::action::Notice;
use super::context::Context;
use super::members::Members;

/// The checkpoints of one job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CheckpointBook {
    /// The newest complete one.
    pub complete: Option<CheckpointRef>,
    /// The one being written, and since when. One at a time: a slow disk delays the next instead of piling them up.
    pub in_flight: Option<(CheckpointRef, Timestamp)>,
    /// Whether one is to be taken at the next chance.
    pub due: bool,
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

    /// Asks the writer for a checkpoint, unless one is being written.
    pub fn take(&mut self, checkpoint: CheckpointRef, members: &Members, cx: &mut Context<'_>) {
        if self.in_flight.is_some() {
            self.due = true;
            return;
        }
        self.due = false;
        self.in_flight = Some((checkpoint.clone(), cx.now));
        let command = Command::TakeCheckpoint(TakeCheckpoint {
            membership: members.membership().clone(),
            checkpoint,
            world: members.world_u32(),
        });
        cx.send(members.writer(), command);
    }

    /// Takes note of a complete checkpoint. One that nobody waits for changes nothing.
    pub fn written(&mut self, written: CheckpointWritten, cx: &mut Context<'_>) {
        if self.settle(&written.checkpoint) {
            self.complete = Some(written.checkpoint.clone());
            cx.notify(Notice::CheckpointSaved {
                checkpoint: written.checkpoint,
                bytes: written.bytes,
                elapsed: written.elapsed,
            });
        }
    }

    /// Takes note of a checkpoint that could not be written; false where nobody waits for it.
    pub fn failed(&mut self, failed: CheckpointFailed, cx: &mut Context<'_>) -> bool {
        let awaited = self.settle(&failed.checkpoint);
        if awaited {
            cx.notify(Notice::CheckpointFailed {
                checkpoint: failed.checkpoint,
                message: failed.message,
            });
        }
        awaited
    }

    fn settle(&mut self, checkpoint: &CheckpointRef) -> bool {
        let awaited = self
            .in_flight
            .take_if(|(in_flight, _)| in_flight == checkpoint);
        awaited.is_some()
    }
}
