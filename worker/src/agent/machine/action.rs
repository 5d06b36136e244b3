//! What a worker does.

use std::net::SocketAddr;
use std::time::Duration;

use weft_common::id::{JobId, Term, WorkerId};
use weft_common::wire::{DatasetRef, Event, Holding, Membership};

use crate::agent::exit::WorkerExit;
use crate::agent::order::Order;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Open a session; answered with [`Input::Connected`](super::Input::Connected) or
    /// [`Input::ConnectFailed`](super::Input::ConnectFailed).
    Connect(Connect),
    /// Tell the coordinator; of no effect without a session.
    Send(Event),
    /// Bring the dataset to this host; answered with [`Input::Dataset`](super::Input::Dataset).
    Fetch {
        /// The job.
        job: JobId,
        /// Its dataset.
        dataset: DatasetRef,
    },
    /// Bring the state of a peer to this host; answered with [`Input::Copied`](super::Input::Copied).
    Copy(Copy),
    /// Tell the training thread.
    Train(Order),
    /// End what is under way of a kind, and pass over what is queued of it. What is asked for later is not affected.
    Cancel(Scope),
    /// End the process.
    Exit(WorkerExit),
}

/// One attempt to open a session: register, then attach.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// Pause before the attempt.
    pub after: Duration,
    /// The session's number.
    pub session: u32,
    /// A coordinator of a lower term is a zombie and must not be attached to.
    pub at_least: Term,
    /// What the worker holds, told when it attaches.
    pub holding: Option<Box<Holding>>,
}

/// A state to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The membership that asks for it; its job is whose state it is.
    pub membership: Membership,
    /// The member that has it.
    pub source: WorkerId,
    /// Where it is served.
    pub address: SocketAddr,
    /// A state that is larger is none of this job.
    pub limit_bytes: u64,
}

/// What can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Queued micro-batches that are not staged; the running one goes on to its end.
    Slots,
    /// Queued and running micro-batches that are staged.
    Staged,
    /// Queued and running reductions.
    Reduce,
    /// A copy of a peer's state on its way.
    Copy,
    /// All of these, and whatever else is queued of the job but [`Order::Unload`].
    Job,
}
