//! A worker process: the real state machine over a simulated training thread.

use std::time::Duration;

use weft_common::id::WorkerId;
use weft_worker::agent::machine::{Action, Machine};

use super::network::ConnectionId;
use super::trainer::Trainer;

/// A worker process.
#[derive(Debug)]
pub(super) struct Process {
    /// Where it runs.
    pub(super) host: u32,
    /// This start.
    pub(super) worker: WorkerId,
    pub(super) machine: Machine,
    pub(super) trainer: Trainer,
    /// Its session's connection.
    pub(super) connection: Option<ConnectionId>,
    pub(super) alive: bool,
    /// It does not run before.
    pub(super) paused_until: Duration,
    /// Its training thread hangs.
    pub(super) hangs: bool,
    /// It says its next report twice.
    pub(super) repeats: bool,
    /// Its attempts to connect so far; news of earlier ones is dropped.
    pub(super) attempts: u64,
    /// Its copies of peers' states so far; news of earlier ones is dropped.
    pub(super) copies: u64,
}

impl Process {
    /// The `number`th process of the simulation, and what it does first.
    pub(super) fn start(number: usize, host: u32) -> (Self, Vec<Action>) {
        let (machine, first) = Machine::start();
        let process = Self {
            host,
            worker: WorkerId::from_number(number as u128 + 1),
            machine,
            trainer: Trainer::default(),
            connection: None,
            alive: true,
            paused_until: Duration::ZERO,
            hangs: false,
            repeats: false,
            attempts: 0,
            copies: 0,
        };
        (process, first)
    }

    /// Ports that nobody else has.
    pub(super) fn ports(&self, number: usize) -> (u16, u16) {
        let port = u16::try_from(number % 20_000).unwrap_or(0);
        (10_000 + port, 40_000 + port)
    }
}
