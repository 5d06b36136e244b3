//! What travels over connections, and how they end.

use std::time::Duration;

use weft_common::id::WorkerId;
use weft_common::wire::{Command, Event};
use weft_coordinator::engine;
use weft_worker::agent::machine::Input;

use super::super::faults::Bite;
use super::super::network::{ConnectionId, Direction};
use super::World;
use super::agenda::{Happening, OnConnection};

impl World {
    pub(super) fn send_up(&mut self, process: usize, event: Event) {
        let delay = self.rng.micros(50, 1500);
        let Some(connection) = self.processes[process].connection else {
            return;
        };
        let repeats = !matches!(event, Event::Heartbeat(_))
            && std::mem::take(&mut self.processes[process].repeats);
        if repeats {
            self.bites.insert(Bite::ReportRepeated);
        }
        for _ in 0..=u32::from(repeats) {
            let Some(link) = self.connections.get_mut(&connection) else {
                return;
            };
            let at = (self.now + delay).max(link.last_up);
            link.last_up = at;
            link.up.push_back(event.clone());
            self.at(at, Happening::Connection(connection, OnConnection::Up));
        }
    }

    pub(super) fn send_down(&mut self, start: u64, to: WorkerId, command: Command) {
        let delay = self.rng.micros(50, 1500);
        let Some(coordinator) = self.coordinators.get(&start) else {
            return;
        };
        let Some((_, connection)) = coordinator.sessions.get(&to).copied() else {
            return;
        };
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        let at = (self.now + delay).max(link.last_down);
        link.last_down = at;
        link.down.push_back(command);
        self.at(at, Happening::Connection(connection, OnConnection::Down));
    }

    pub(super) fn arrive_up(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        let (start, session, process) = (link.coordinator, link.session, link.process);
        if !link.coordinator_end {
            return;
        }
        let opens = self
            .links
            .opens(self.processes[process].host, Direction::Up);
        if opens > self.now {
            self.bites.insert(Bite::ReportHeldBack);
            self.at(opens, Happening::Connection(connection, OnConnection::Up));
            return;
        }
        let Some(event) = link.up.pop_front() else {
            return;
        };
        let worker = self.processes[process].worker;
        if !matches!(event, Event::Heartbeat(_)) {
            self.say(|| format!("   {process} says {event:?}"));
        }
        let event = engine::Event::Reported {
            worker,
            session,
            event,
        };
        self.tell_coordinator(start, event);
    }

    pub(super) fn arrive_down(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        let process = link.process;
        if !link.worker_end || !self.processes[process].alive {
            return;
        }
        let opens = self
            .links
            .opens(self.processes[process].host, Direction::Down);
        if opens > self.now {
            self.bites.insert(Bite::CommandHeldBack);
        }
        let at = opens.max(self.processes[process].paused_until);
        if at > self.now {
            self.at(at, Happening::Connection(connection, OnConnection::Down));
            return;
        }
        let Some(command) = link.down.pop_front() else {
            return;
        };
        self.say(|| format!("   {process} hears {command:?}"));
        self.facts.heard(process, &command);
        self.feed(process, Input::Command(command));
    }

    /// The worker's end is closed; the coordinator learns of it as soon as something gets through.
    pub(super) fn close_worker_end(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        link.worker_end = false;
        let at = link.last_up.max(self.now) + Duration::from_micros(200);
        self.at(
            at,
            Happening::Connection(connection, OnConnection::LostAbove),
        );
    }

    pub(super) fn close_coordinator_end(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        link.coordinator_end = false;
        let at = link.last_down.max(self.now) + Duration::from_micros(200);
        self.at(
            at,
            Happening::Connection(connection, OnConnection::LostBelow),
        );
    }

    pub(super) fn lost_at_coordinator(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        if !link.coordinator_end {
            return;
        }
        let waits = if link.up.is_empty() { 0 } else { 100 };
        let (start, session, process) = (link.coordinator, link.session, link.process);
        let opens = self
            .links
            .opens(self.processes[process].host, Direction::Up);
        let opens = opens.max(self.now + Duration::from_micros(waits));
        if opens > self.now {
            self.at(
                opens,
                Happening::Connection(connection, OnConnection::LostAbove),
            );
            return;
        }
        link.coordinator_end = false;
        let worker = self.processes[process].worker;
        let event = engine::Event::SessionLost {
            worker,
            session,
            cause: "connection reset".into(),
        };
        self.tell_coordinator(start, event);
    }

    pub(super) fn lost_at_worker(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        let process = link.process;
        if !link.worker_end || !self.processes[process].alive {
            return;
        }
        let opens = self
            .links
            .opens(self.processes[process].host, Direction::Down);
        let waits = Duration::from_micros(if link.down.is_empty() { 0 } else { 100 });
        let at = opens.max(self.processes[process].paused_until);
        let at = at.max(self.now + waits);
        if at > self.now {
            self.at(
                at,
                Happening::Connection(connection, OnConnection::LostBelow),
            );
            return;
        }
        link.worker_end = false;
        if self.processes[process].connection == Some(connection) {
            self.processes[process].connection = None;
            self.feed(process, Input::SessionLost("connection reset".into()));
        }
    }
}
