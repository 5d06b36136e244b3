//! Workers open sessions.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use weft_common::id::Term;
use weft_common::wire::{
    Attach, Hello, PROTOCOL_VERSION, Refusal, WEFT_VERSION, Welcome, WorkerFacts,
};
use weft_coordinator::engine::{self, Action};
use weft_worker::agent::machine::{Connect, ConnectFailure, Input};

use super::super::network::{Connection, ConnectionId, Direction};
use super::World;
use super::agenda::{AtWorker, Attempt, Happening};

impl World {
    /// A worker's attempt to open a session reaches the coordinator, or does not.
    pub(super) fn attempt(&mut self, process: usize, attempt: Attempt) {
        let own = &self.processes[process];
        if !own.alive || own.attempts != attempt.number {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(
                resumes,
                Happening::Worker(process, AtWorker::Attempt(attempt)),
            );
            return;
        }
        let host = own.host;
        let open = self
            .links
            .opens(host, Direction::Up)
            .max(self.links.opens(host, Direction::Down));
        let unreachable = || {
            Err(ConnectFailure::Unreachable {
                message: "nobody answers".into(),
            })
        };
        let paused = self.serving().is_some_and(|c| c.paused_until > self.now);
        let (answer, wait) = match self.serving() {
            None => (unreachable(), self.rng.micros(100, 1000)),
            Some(_) if open > self.now || paused => (unreachable(), Duration::from_secs(2)),
            Some(_) => (
                self.register(process, &attempt.asked),
                self.rng.micros(100, 2000),
            ),
        };
        self.after(
            wait,
            Happening::Worker(process, AtWorker::Answered(attempt, answer)),
        );
    }

    pub(super) fn register(
        &mut self,
        process: usize,
        asked: &Connect,
    ) -> Result<(u64, Welcome), ConnectFailure> {
        let lost = |message: &str| ConnectFailure::Lost {
            term: None,
            message: message.to_owned(),
        };
        let own = &self.processes[process];
        let hello = Hello {
            worker: own.worker,
            weft_version: WEFT_VERSION.into(),
            protocol_version: PROTOCOL_VERSION,
            session: asked.session,
            facts: WorkerFacts {
                host: format!("host-{}", own.host),
                device: "sim".into(),
                memory_bytes: 0,
                labels: BTreeMap::new(),
            },
        };
        let coordinator = self.coordinators.get_mut(&self.started);
        let coordinator = coordinator.ok_or_else(|| lost("gone"))?;
        let (start, clock) = (coordinator.start, coordinator.clock(self.now));
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let event = engine::Event::Registered { hello, ip };
        let actions = coordinator.engine.step(event, clock);
        let mut answer = Err(lost("no answer"));
        for action in actions {
            if let Action::AnswerHello(reply) = action {
                answer = reply.map(|welcome| (start, welcome)).map_err(refused);
            } else {
                self.perform(start, action);
            }
        }
        answer
    }

    /// The worker knows what came of its attempt, and attaches.
    pub(super) fn answered(
        &mut self,
        process: usize,
        attempt: Attempt,
        answer: Result<(u64, Welcome), ConnectFailure>,
    ) {
        let own = &self.processes[process];
        if !own.alive || own.attempts != attempt.number {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(
                resumes,
                Happening::Worker(process, AtWorker::Answered(attempt, answer)),
            );
            return;
        }
        let (start, welcome) = match answer {
            Ok(answer) => answer,
            Err(failure) => return self.feed(process, Input::ConnectFailed(failure)),
        };
        let gone = !self.coordinators.contains_key(&start);
        if gone || welcome.term < attempt.asked.at_least {
            let failure = ConnectFailure::Lost {
                term: Some(welcome.term),
                message: "the session was not opened".into(),
            };
            return self.feed(process, Input::ConnectFailed(failure));
        }
        self.open(process, start, welcome.term, *attempt.asked);
    }

    pub(super) fn open(&mut self, process: usize, start: u64, term: Term, asked: Connect) {
        let connection = ConnectionId(self.events);
        let link = Connection {
            process,
            session: asked.session,
            coordinator: start,
            worker_end: true,
            coordinator_end: true,
            last_up: self.now,
            last_down: self.now,
            up: VecDeque::new(),
            down: VecDeque::new(),
        };
        self.connections.insert(connection, link);
        self.processes[process].connection = Some(connection);
        let attach = Attach {
            worker: self.processes[process].worker,
            term,
            session: asked.session,
            holding: asked.holding.map(|holding| *holding),
        };
        if let Some(coordinator) = self.coordinators.get_mut(&start) {
            let known = coordinator.sessions.get(&attach.worker);
            if known.is_none_or(|(session, _)| *session < attach.session) {
                let session = (attach.session, connection);
                coordinator.sessions.insert(attach.worker, session);
            }
        }
        self.say(|| format!("worker {process} attaches: {attach:?}"));
        self.feed(process, Input::Connected { term });
        let event = engine::Event::Attached {
            worker: attach.worker,
            session: attach.session,
            holding: attach.holding.map(Box::new),
        };
        self.tell_coordinator(start, event);
    }
}

fn refused(refusal: Refusal) -> ConnectFailure {
    let message = refusal.to_string();
    match refusal {
        Refusal::Duplicate { .. } => ConnectFailure::Duplicate { message },
        Refusal::ShuttingDown => ConnectFailure::ShuttingDown { message },
        Refusal::WeftVersion { .. }
        | Refusal::ProtocolVersion { .. }
        | Refusal::Full { .. }
        | Refusal::Malformed(_) => ConnectFailure::Refused { message },
    }
}
