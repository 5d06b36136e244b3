//! Processes come and go.

use weft_common::id::Term;
use weft_common::wire::{self, Event};
use weft_coordinator::engine;

use super::super::coordinator::Coordinator;
use super::super::job;
use super::super::network::ConnectionId;
use super::super::process::Process;
use super::agenda::{AtCoordinator, AtWorker, Happening};
use super::{BEAT, FENCE_EVERY, TICK, World};

impl World {
    pub(super) fn start_worker(&mut self, host: u32) {
        let running = self.hosts[host as usize];
        if running.is_some_and(|process| self.processes[process].alive) {
            return;
        }
        let number = self.processes.len();
        let (process, first) = Process::start(number, host);
        self.processes.push(process);
        self.hosts[host as usize] = Some(number);
        self.say(|| format!("worker {number} starts on host {host}"));
        self.after(BEAT, Happening::Worker(number, AtWorker::Beat));
        self.obey(number, first);
    }

    /// Ends a process; its connection breaks.
    pub(super) fn end_worker(&mut self, process: usize) {
        self.processes[process].alive = false;
        self.say(|| format!("worker {process} ends"));
        if let Some(connection) = self.processes[process].connection.take() {
            self.close_worker_end(connection);
        }
    }

    /// Starts a coordinator, unless there is one.
    pub(super) fn start_coordinator(&mut self) {
        if self.serving().is_none() {
            let term = self.disk.raise_fence();
            self.take_over(term);
        }
    }

    /// A coordinator that has put up its fence reads the ledger and serves from then on.
    pub(super) fn take_over(&mut self, term: Term) {
        // Else a later one was faster.
        let Ok(continued) = self.disk.take_over(term) else {
            return;
        };
        let checkpoint = self.disk.newest_checkpoint();
        self.started += 1;
        let start = self.started;
        self.say(|| format!("coordinator {start} starts in term {term}: {continued:?}"));
        let coordinator = Coordinator::new(start, term, self.now, continued);
        self.coordinators.insert(start, coordinator);
        let terms = job::terms(&self.setup, checkpoint);
        self.after(TICK, Happening::Coordinator(start, AtCoordinator::Tick));
        self.after(
            FENCE_EVERY,
            Happening::Coordinator(start, AtCoordinator::Idles),
        );
        self.tell_coordinator(start, engine::Event::Submitted(terms));
    }

    /// Ends a coordinator. Of what it was writing, some may have reached the disk.
    pub(super) fn end_coordinator(&mut self, start: u64) {
        let Some(mut coordinator) = self.coordinators.remove(&start) else {
            return;
        };
        self.say(|| format!("coordinator {start} ends"));
        while let Some(write) = coordinator.writes.pop_front() {
            if self.rng.chance(500) {
                break;
            }
            self.write(coordinator.term, write);
        }
        let open: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, link)| link.coordinator_end && link.coordinator == start)
            .map(|(id, _)| *id)
            .collect();
        for connection in open {
            self.close_coordinator_end(connection);
        }
    }

    pub(super) fn tick(&mut self, start: u64) {
        if self.coordinators.contains_key(&start) {
            self.after(TICK, Happening::Coordinator(start, AtCoordinator::Tick));
            self.tell_coordinator(start, engine::Event::Tick);
        }
    }

    pub(super) fn beat(&mut self, process: usize) {
        if !self.processes[process].alive {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(resumes, Happening::Worker(process, AtWorker::Beat));
            return;
        }
        self.after(BEAT, Happening::Worker(process, AtWorker::Beat));
        self.send_up(process, Event::Heartbeat(wire::Heartbeat::default()));
    }
}
