//! What goes wrong, and how it is healed.

use std::time::Duration;

use weft_coordinator::engine;
use weft_worker::agent::machine::Input;

use super::super::faults::{Bite, Fault, Planted};
use super::super::job;
use super::super::network::Direction;
use super::super::process::Process;
use super::World;
use super::agenda::{AtWorker, Happening, OnConnection};

impl World {
    pub(super) fn running(&self, host: u32) -> Option<usize> {
        let process = self.hosts[host as usize]?;
        self.processes[process].alive.then_some(process)
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.say(|| format!("** {fault:?}"));
        match fault {
            Fault::KillWorker { host, back_after } => {
                if let Some(process) = self.running(host) {
                    self.bites.insert(Bite::WorkerKilled);
                    self.end_worker(process);
                }
                self.after(back_after, Happening::StartWorker(host));
            }
            Fault::StopWorker { host, back_after } => self.stop_worker(host, back_after),
            Fault::PauseWorker { host, lasts } => self.pause_worker(host, lasts),
            Fault::HangWorker { host } => self.afflict(host, |process| process.hangs = true),
            Fault::Reset { host } => self.reset(host),
            Fault::Block {
                host,
                up,
                down,
                lasts,
            } => self.block(host, (up, down), lasts),
            Fault::Separate { a, b, lasts } => self.links.separate(a, b, self.now + lasts),
            Fault::KillCoordinator { back_after } => {
                if self.serving().is_some() {
                    self.bites.insert(Bite::CoordinatorKilled);
                }
                self.end_coordinator(self.started);
                self.after(back_after, Happening::StartCoordinator);
            }
            Fault::PauseCoordinator { lasts } => {
                self.pause_coordinator(lasts);
            }
            Fault::SecondCoordinator {
                first_sleeps,
                reads_after,
            } => {
                self.pause_coordinator(first_sleeps);
                let term = self.disk.raise_fence();
                self.after(reads_after, Happening::TakeOver(term));
            }
            Fault::BreakStorage { lasts } => self.storage_broken_until = self.now + lasts,
            Fault::Repeat { host } => self.afflict(host, |process| process.repeats = true),
            Fault::Scale { workers } => {
                if self.serving().is_some() {
                    self.bites.insert(Bite::JobScaled);
                }
                self.scale(workers);
            }
            Fault::FlipBit { host, flip } => {
                self.afflict(host, |process| process.trainer.flips = Some(flip));
            }
        }
        if self.setup.planted == Some(Planted::CountTwice) {
            for process in &mut self.processes {
                process.trainer.counts_twice = true;
            }
        }
    }

    /// Changes something about the process that runs on a host.
    fn afflict(&mut self, host: u32, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.running(host) {
            change(&mut self.processes[process]);
        }
    }

    fn stop_worker(&mut self, host: u32, back_after: Duration) {
        if let Some(process) = self.running(host) {
            self.bites.insert(Bite::WorkerStopped);
            self.input(process, Box::new(Input::StopRequested));
            let overdue = Happening::Worker(process, AtWorker::LeaveOverdue);
            self.after(Duration::from_secs(50), overdue);
        }
        self.after(back_after, Happening::StartWorker(host));
    }

    fn pause_worker(&mut self, host: u32, lasts: Duration) {
        let until = self.now + lasts;
        if let Some(process) = self.running(host) {
            self.bites.insert(Bite::WorkerPaused);
            self.processes[process].paused_until = until;
            self.at(until, Happening::LookAtRings);
        }
    }

    fn reset(&mut self, host: u32) {
        let process = self.running(host);
        let Some(connection) = process.and_then(|p| self.processes[p].connection) else {
            return;
        };
        self.bites.insert(Bite::ConnectionReset);
        self.close_coordinator_end(connection);
        if let Some(link) = self.connections.get_mut(&connection) {
            link.coordinator_end = true;
        }
        let lost = Happening::Connection(connection, OnConnection::LostAbove);
        self.after(Duration::ZERO, lost);
    }

    fn pause_coordinator(&mut self, lasts: Duration) {
        let until = self.now + lasts;
        if let Some(coordinator) = self.coordinators.get_mut(&self.started) {
            coordinator.paused_until = until;
        }
    }

    fn block(&mut self, host: u32, (up, down): (bool, bool), lasts: Duration) {
        let until = self.now + lasts;
        for (blocked, direction) in [(up, Direction::Up), (down, Direction::Down)] {
            if blocked {
                self.links.block(host, direction, until);
            }
        }
    }

    pub(super) fn scale(&mut self, workers: u32) {
        if let Some(start) = self.serving().map(|c| c.start) {
            let job = job::id();
            self.tell_coordinator(start, engine::Event::ScaleRequested { job, workers });
        }
    }

    pub(super) fn heal(&mut self) {
        self.say(|| "** everything is healed".into());
        self.healed = true;
        self.storage_broken_until = Duration::ZERO;
        for process in &mut self.processes {
            process.trainer.flips = None;
        }
        for host in 0..self.setup.hosts {
            let broken = self.running(host).filter(|process| {
                let own = &self.processes[*process];
                own.hangs || own.trainer.flipped
            });
            if let Some(process) = broken {
                self.end_worker(process);
            }
        }
        self.at(self.now, Happening::StartCoordinator);
        self.scale(self.setup.workers);
        for host in 0..self.setup.hosts {
            self.at(self.now, Happening::StartWorker(host));
        }
        self.look_at_rings();
    }
}
