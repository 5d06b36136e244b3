//! Checkpoints, written on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use tokio::sync::mpsc;
use weft_common::failpoint;
use weft_common::wire::{CheckpointFailed, CheckpointWritten, Event, TakeCheckpoint};

use super::Done;
use super::failure::panicked;
use super::loaded::Loaded;
use crate::agent::order::Answer;
use crate::agent::{EngineError, Snapshot, SnapshotMeta};

impl Loaded {
    /// Training goes on as soon as the state is copied; a thread of its own writes it.
    pub(super) fn snapshot(&mut self, take: TakeCheckpoint, answers: mpsc::Sender<Answer>) -> Done {
        let start = Instant::now();
        let meta = SnapshotMeta {
            membership: take.membership.clone(),
            next_step: take.checkpoint.next_step,
            world: take.world,
        };
        let snapshot = match self.engine.snapshot(&meta) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let failed = Event::CheckpointFailed(unsaved(take, error));
                return Ok(Some(Answer::Done(failed)));
            }
        };
        failpoint::hit("snapshot");
        std::thread::spawn(move || {
            // A worker that has ended waits for no answer.
            let _ = answers.blocking_send(Answer::Done(write(take, snapshot, start)));
        });
        Ok(None)
    }
}

fn write(take: TakeCheckpoint, snapshot: Box<dyn Snapshot>, start: Instant) -> Event {
    let dir = take.checkpoint.dir.clone();
    let written = catch_unwind(AssertUnwindSafe(|| snapshot.write(&dir)));
    match written.unwrap_or_else(|panic| Err(panicked(&*panic))) {
        Ok(files) => Event::CheckpointWritten(CheckpointWritten {
            membership: take.membership,
            checkpoint: take.checkpoint,
            bytes: files.bytes,
            elapsed: start.elapsed(),
        }),
        Err(error) => Event::CheckpointFailed(unsaved(take, error)),
    }
}

fn unsaved(take: TakeCheckpoint, error: EngineError) -> CheckpointFailed {
    CheckpointFailed {
        membership: take.membership,
        checkpoint: take.checkpoint,
        kind: error.kind,
        message: error.message,
    }
}
