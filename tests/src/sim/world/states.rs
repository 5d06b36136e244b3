//! States are saved, and copied between workers.

use std::time::Duration;

use weft_common::wire::{self, Event, TakeCheckpoint};
use weft_worker::agent::machine::{self, Input};
use weft_worker::agent::{Answer, ErrorKind, StateCopy};

use super::super::faults::Bite;
use super::super::trainer::pack;
use super::World;
use super::agenda::{AtWorker, Copying, Happening};

impl World {
    pub(super) fn snapshot(&mut self, process: usize, take: TakeCheckpoint) {
        let Some(loaded) = &self.processes[process].trainer.loaded else {
            return;
        };
        let state = loaded.state;
        self.facts.snapshot(loaded, &take);
        let wait = self.rng.millis(2, 400);
        let take = Box::new(take);
        self.after(
            wait,
            Happening::Worker(process, AtWorker::Saved(take, state)),
        );
    }

    pub(super) fn saved(&mut self, process: usize, take: TakeCheckpoint, state: u64) {
        if !self.processes[process].alive {
            return;
        }
        let event = if self.now < self.storage_broken_until {
            self.bites.insert(Bite::CheckpointFailed);
            Event::CheckpointFailed(wire::CheckpointFailed {
                membership: take.membership,
                checkpoint: take.checkpoint,
                kind: ErrorKind::Storage,
                message: "no space left on device".into(),
            })
        } else {
            self.disk
                .checkpoints
                .insert(take.checkpoint.next_step, state);
            Event::CheckpointWritten(wire::CheckpointWritten {
                membership: take.membership,
                checkpoint: take.checkpoint,
                bytes: 8,
                elapsed: Duration::ZERO,
            })
        };
        self.input(process, Box::new(Input::Answer(Answer::Done(event))));
    }

    pub(super) fn copy(&mut self, process: usize, asked: machine::Copy) {
        let own = &mut self.processes[process];
        own.copies += 1;
        let number = own.copies;
        let wait = self.rng.micros(200, 30_000);
        let asked = Box::new(asked);
        let copying = Copying { number, asked };
        self.after(wait, Happening::Worker(process, AtWorker::Share(copying)));
    }

    /// The source takes its state, between two orders.
    pub(super) fn share(&mut self, process: usize, copying: Copying) {
        let to = self.processes[process].host;
        let source = self
            .processes
            .iter()
            .find(|own| own.worker == copying.asked.source);
        let source = source.filter(|own| {
            let reached = self.links.meet(to, own.host) <= self.now;
            own.alive && !own.hangs && own.paused_until <= self.now && reached
        });
        let loaded = source.and_then(|own| own.trainer.loaded.as_ref());
        let found = loaded
            .map(|loaded| pack(loaded.state, loaded.next_step))
            .ok_or_else(|| "the source does not answer".to_owned());
        let wait = match &found {
            Ok(_) => self.rng.millis(1, 200),
            Err(_) => Duration::from_secs(2),
        };
        self.after(
            wait,
            Happening::Worker(process, AtWorker::Shared(copying, found)),
        );
    }

    pub(super) fn shared(
        &mut self,
        process: usize,
        copying: Copying,
        found: Result<StateCopy, String>,
    ) {
        if self.processes[process].copies != copying.number {
            return;
        }
        let input = Box::new(Input::Copied {
            membership: copying.asked.membership,
            source: copying.asked.source,
            found,
        });
        self.input(process, input);
    }
}
