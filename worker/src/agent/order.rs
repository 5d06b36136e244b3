//! What the training thread is told, and what it answers.

use weft_common::wire::{
    Event, FormEpoch, LeasedSlot, Membership, Prepare, Round, TakeCheckpoint, Update, WorkerFailed,
};

/// One thing for the training thread to do; it does them in the order they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Make the job's engine and restore its state.
    Load(Box<Loading>),
    /// Connect to the peers of an epoch.
    Join(FormEpoch),
    /// Compute a micro-batch.
    Compute {
        round: Round,
        step_supervised: u64,
        slot: LeasedSlot,
    },
    /// Sum the accumulators.
    Reduce(Round),
    /// Apply a committed step.
    Apply { round: Round, update: Update },
    /// Copy the state and write it elsewhere.
    Snapshot(TakeCheckpoint),
    /// Forget the gradients of the step in hand.
    DropAccumulator,
    /// Forget the job.
    Unload,
}

/// A job to load, with its dataset on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loading {
    pub(super) prepare: Prepare,
    pub(super) dataset_dir: std::path::PathBuf,
}

/// What the training thread answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Something to tell the coordinator, as it is.
    Done(Event),
    /// An order failed; the job cannot go on here.
    Failed(WorkerFailed),
}

impl Answer {
    /// The membership that was worked for.
    pub(super) fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Failed(failed) => Some(&failed.membership),
            Self::Done(event) => match event {
                Event::Prepared(event) => Some(&event.membership),
                Event::EpochReady(membership) => Some(membership),
                Event::SlotDone(event) => Some(&event.round.membership),
                Event::Reduced(event) => Some(&event.round.membership),
                Event::Applied(event) => Some(&event.round.membership),
                Event::CheckpointWritten(event) => Some(&event.membership),
                Event::CheckpointFailed(event) => Some(&event.membership),
                Event::Failed(event) => Some(&event.membership),
                Event::Heartbeat(_) | Event::Leave { .. } => None,
            },
        }
    }
}
