//! Links between hosts, and the connections that run over them.
//!
//! A connection delivers in order or not at all. While a link is blocked, what is sent waits, as TCP's retransmission
//! makes it; when a connection breaks, both ends learn of it, each as soon as something gets through to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_common::wire::{Command, Event};

/// A connection between a worker process and a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub(super) u64);

/// One session's connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// The process.
    pub(super) process: usize,
    /// Its session.
    pub(super) session: u32,
    /// The coordinator's start.
    pub(super) coordinator: u64,
    /// Whether the worker's end is open.
    pub(super) worker_end: bool,
    /// Whether the coordinator's end is open.
    pub(super) coordinator_end: bool,
    /// When the last message in each direction arrives, so that the next one comes after it.
    pub(super) last_up: Duration,
    /// See `last_up`.
    pub(super) last_down: Duration,
    /// What is on its way to the coordinator, in order.
    pub(super) up: VecDeque<Event>,
    /// What is on its way to the worker, in order.
    pub(super) down: VecDeque<Command>,
}

/// A direction of a link between a host and the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Until when links are blocked.
#[derive(Debug, Default)]
pub(super) struct Links {
    up: BTreeMap<u32, Duration>,
    down: BTreeMap<u32, Duration>,
    pairs: BTreeMap<(u32, u32), Duration>,
}

impl Links {
    pub(super) fn block(&mut self, host: u32, direction: Direction, until: Duration) {
        let blocked = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        let end = blocked.entry(host).or_default();
        *end = until.max(*end);
    }

    pub(super) fn separate(&mut self, a: u32, b: u32, until: Duration) {
        let end = self.pairs.entry((a.min(b), a.max(b))).or_default();
        *end = until.max(*end);
    }

    /// When what is ready now gets through.
    pub(super) fn opens(&self, host: u32, direction: Direction) -> Duration {
        let blocked = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        blocked.get(&host).copied().unwrap_or_default()
    }

    /// When two hosts can talk.
    pub(super) fn meet(&self, a: u32, b: u32) -> Duration {
        let pair = (a.min(b), a.max(b));
        self.pairs.get(&pair).copied().unwrap_or_default()
    }
}
