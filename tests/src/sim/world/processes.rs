//! Processes come and go.

use weft_common::wire::{self, Event};
use weft_coordinator::engine;

use super::super::coordinator::Coordinator;
use super::super::job;
use super::super::network::ConnectionId;
use super::super::process::Process;
use super::agenda::{AtCoordinator, AtWorker, Happening};
use super::{BEAT, TICK, World};

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

    pub(super) fn start_coordinator(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        let continued = self.disk.continued();
        let checkpoint = self.disk.newest_checkpoint();
        let term = self.disk.next_term();
        self.coordinators += 1;
        let start = self.coordinators;
        self.say(|| format!("coordinator {start} starts in term {term}: {continued:?}"));
        self.coordinator = Some(Coordinator::new(start, term, self.now, continued));
        let terms = job::terms(&self.setup, checkpoint);
        self.after(TICK, Happening::Coordinator(start, AtCoordinator::Tick));
        self.tell_coordinator(start, engine::Event::Submitted(terms));
    }

    /// Ends the coordinator. Of what it was writing, some may have reached the disk.
    pub(super) fn end_coordinator(&mut self) {
        let Some(mut coordinator) = self.coordinator.take() else {
            return;
        };
        self.say(|| format!("coordinator {} ends", coordinator.start));
        while let Some(write) = coordinator.writes.pop_front() {
            if self.rng.chance(500) {
                break;
            }
            // Its own term is the newest until another one starts.
            let _ = self.write(coordinator.term, write);
        }
        let open: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, link)| link.coordinator_end && link.coordinator == coordinator.start)
            .map(|(id, _)| *id)
            .collect();
        for connection in open {
            self.close_coordinator_end(connection);
        }
    }

    pub(super) fn tick(&mut self, start: u64) {
        if self.coordinator.as_ref().is_some_and(|c| c.start == start) {
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
