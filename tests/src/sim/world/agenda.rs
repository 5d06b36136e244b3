//! What happens, and when.

use std::cmp::Ordering;
use std::time::Duration;

use weft_common::id::{Step, Term};
use weft_common::wire::{TakeCheckpoint, Welcome};
use weft_coordinator::engine;
use weft_worker::agent::StateCopy;
use weft_worker::agent::machine::{self, Connect, ConnectFailure, Input};

use super::super::faults::Fault;
use super::super::job;
use super::super::network::ConnectionId;
use super::super::trainer::Given;
use super::World;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    StartWorker(u32),
    StartCoordinator,
    /// The coordinator of this term, whose fence is up, reads the ledger.
    TakeOver(Term),
    /// At a coordinator, by the number of its start.
    Coordinator(u64, AtCoordinator),
    /// At a worker's process.
    Worker(usize, AtWorker),
    Connection(ConnectionId, OnConnection),
    LookAtRings,
    Fault(Fault),
    Heal,
}

/// Something that happens at a coordinator.
#[derive(Debug)]
pub(super) enum AtCoordinator {
    Tick,
    DataPrepared,
    Written,
    /// What it wrote is durable: a record of this step, or a new segment.
    LooksAtFence(Option<Step>),
    Idles,
    Told(Box<engine::Event>),
}

/// Something that happens at a worker's process.
#[derive(Debug)]
pub(super) enum AtWorker {
    Beat,
    Attempt(Attempt),
    Answered(Attempt, Result<(u64, Welcome), ConnectFailure>),
    Input(Box<Input>),
    /// The training thread's order of this turn is done.
    OrderDone(u64, Given),
    /// The reduction of this turn stands still.
    ReduceOverdue(u64),
    Share(Copying),
    Shared(Copying, Result<StateCopy, String>),
    /// The state is in a checkpoint.
    Saved(Box<TakeCheckpoint>, u64),
    LeaveOverdue,
}

/// An attempt to open a session.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) asked: Box<Connect>,
}

/// A copy of a peer's state.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) number: u64,
    pub(super) asked: Box<machine::Copy>,
}

/// Something that happens on a connection.
#[derive(Debug)]
pub(super) enum OnConnection {
    /// The next message arrives at the coordinator.
    Up,
    /// The next message arrives at the worker.
    Down,
    /// The coordinator learns that it is broken.
    LostAbove,
    /// The worker learns that it is broken.
    LostBelow,
}

/// An entry of the agenda.
pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) number: u64,
    pub(super) happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl World {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartWorker(host) => self.start_worker(host),
            Happening::StartCoordinator => self.start_coordinator(),
            Happening::TakeOver(term) => self.take_over(term),
            Happening::Coordinator(start, what) => self.at_coordinator(start, what),
            Happening::Worker(process, what) => self.at_worker(process, what),
            Happening::Connection(connection, what) => self.on_connection(connection, &what),
            Happening::LookAtRings => self.look_at_rings(),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Heal => self.heal(),
        }
    }

    fn at_coordinator(&mut self, start: u64, what: AtCoordinator) {
        match what {
            AtCoordinator::Tick => self.tick(start),
            AtCoordinator::DataPrepared => {
                let (job, data) = (job::id(), self.data.clone());
                let own = self.coordinators.get(&start);
                let continued = own.and_then(|own| own.continued.clone());
                let event = engine::Event::DataPrepared {
                    job,
                    data,
                    continued,
                };
                self.tell_coordinator(start, event);
            }
            AtCoordinator::Written => self.written(start),
            AtCoordinator::LooksAtFence(step) => self.looks_at_fence(start, step),
            AtCoordinator::Idles => self.idles(start),
            AtCoordinator::Told(event) => self.tell_coordinator(start, *event),
        }
    }

    fn at_worker(&mut self, process: usize, what: AtWorker) {
        match what {
            AtWorker::Beat => self.beat(process),
            AtWorker::Attempt(attempt) => self.attempt(process, attempt),
            AtWorker::Answered(attempt, answer) => self.answered(process, attempt, answer),
            AtWorker::Input(input) => self.input(process, input),
            AtWorker::OrderDone(turn, given) => self.order_done(process, turn, given),
            AtWorker::ReduceOverdue(turn) => self.reduce_overdue(process, turn),
            AtWorker::Share(copying) => self.share(process, copying),
            AtWorker::Shared(copying, found) => self.shared(process, copying, found),
            AtWorker::Saved(take, state) => self.saved(process, *take, state),
            AtWorker::LeaveOverdue => self.input(process, Box::new(Input::LeaveOverdue)),
        }
    }

    fn on_connection(&mut self, connection: ConnectionId, what: &OnConnection) {
        match what {
            OnConnection::Up => self.arrive_up(connection),
            OnConnection::Down => self.arrive_down(connection),
            OnConnection::LostAbove => self.lost_at_coordinator(connection),
            OnConnection::LostBelow => self.lost_at_worker(connection),
        }
    }
}
