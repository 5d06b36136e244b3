//! What the training thread is told, and what it answers.

use std::path::PathBuf;
use std::sync::Arc;

use weft_common::id::LeaseId;
use weft_common::wire::{
    Event, FormEpoch, Holding, LeasedSlot, Membership, Prepare, Restore, Round, TakeCheckpoint,
    Update, WorkerFailed,
};

/// One thing for the training thread to do; it does them in the order they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Make the job's engine and restore its state; answered with [`Event::Prepared`].
    Load(Box<Loading>),
    /// Say what is held; answered with [`Event::Prepared`].
    ///
    /// What is held is told under the newest membership heard of, that of the order included. This holds for all orders.
    Describe(Membership),
    /// Forget what is staged and the peers, then say what is held; answered with [`Answer::Settled`], always.
    Settle(Membership),
    /// Go back to a checkpoint or to the beginning; answered with [`Event::Prepared`].
    Restore(Restore),
    /// Take over the copied state of a peer; answered with [`Event::Prepared`].
    Adopt {
        /// The membership that asked for it.
        membership: Membership,
        /// The copy.
        copy: StateCopy,
    },
    /// Note the members of an epoch. Connecting to them is left to the first [`Order::Reduce`]. No answer.
    Join(FormEpoch),
    /// Compute a micro-batch; answered with [`Event::SlotDone`], unless it is cancelled.
    Compute {
        /// The round of its grant.
        round: Round,
        /// Supervised tokens of the whole step.
        step_supervised: u64,
        /// The micro-batch.
        slot: LeasedSlot,
    },
    /// Add the staged micro-batch to the accumulator. No answer.
    Merge {
        /// The round of its grant.
        round: Round,
        /// Its grant.
        lease: LeaseId,
    },
    /// Forget the staged micro-batch, where this grant's is staged. No answer.
    Discard(LeaseId),
    /// Sum the accumulators, with the members of the last [`Order::Join`]; answered with [`Event::Reduced`].
    Reduce(Round),
    /// Apply a committed step; answered with [`Event::Applied`].
    Apply {
        /// The attempt whose sum is applied.
        round: Round,
        /// What happens to it.
        update: Update,
    },
    /// Copy the state and write it elsewhere; answered with [`Event::CheckpointWritten`] or
    /// [`Event::CheckpointFailed`], out of turn.
    Snapshot(TakeCheckpoint),
    /// Forget the job. No answer.
    Unload,
}

/// A job to load, with its dataset on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loading {
    /// The job.
    pub prepare: Prepare,
    /// Complete folder of its prepared dataset.
    pub dataset_dir: PathBuf,
}

/// The copied state of a peer, as its [`Snapshot`](super::Snapshot) gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateCopy(Arc<(Vec<u8>, Vec<u8>)>);

impl StateCopy {
    /// What came: the header, and the arrays' bytes one after another.
    #[must_use]
    pub fn new(header: Vec<u8>, arrays: Vec<u8>) -> Self {
        Self(Arc::new((header, arrays)))
    }

    /// What the state belongs to and where it stands.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.0.0
    }

    /// The bytes of all arrays, one after another.
    #[must_use]
    pub fn arrays(&self) -> &[u8] {
        &self.0.1
    }
}

/// What the training thread answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Something to tell the coordinator.
    Done(Event),
    /// An order failed.
    Failed(WorkerFailed),
    /// What is held now; nothing where no job is loaded. Everything ordered before is done or passed over.
    Settled(Option<Holding>),
}

impl Answer {
    /// The membership that was worked for.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Failed(failed) => Some(&failed.membership),
            Self::Settled(holding) => holding.as_ref().map(|holding| &holding.membership),
            Self::Done(event) => match event {
                Event::Prepared(event) => Some(&event.membership),
                Event::SyncFailed(event) => Some(&event.membership),
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
