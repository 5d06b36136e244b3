//! The world: one event after another, in the order of their times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::{Step, Term, WorkerId};
use weft_common::wire::{
    self, Attach, Command, Event, Hello, PROTOCOL_VERSION, Refusal, TakeCheckpoint, WEFT_VERSION,
    Welcome, WorkerFacts,
};
use weft_coordinator::engine::{self, Action, JobOutcome, Notice, RunData};
use weft_worker::agent::machine::{self, Connect, ConnectFailure, Input};
use weft_worker::agent::{Answer, ErrorKind, Order, StateCopy};

use super::arithmetic::trajectory;
use super::coordinator::{Coordinator, Write};
use super::disk::Disk;
use super::faults::{Fault, Planted, schedule};
use super::invariants::{self, Facts};
use super::job;
use super::network::{Connection, ConnectionId, Direction, Links};
use super::process::Process;
use super::rng::Rng;
use super::setup::Setup;
use super::trainer::{Given, pack, step_of};

/// Between looks at the clock, as in the driver.
const TICK: Duration = Duration::from_millis(100);
/// Between signs of life.
const BEAT: Duration = Duration::from_millis(250);
/// How long a healed job may take to its end.
const HEALED_WITHIN: Duration = Duration::from_secs(240);
/// How long a reduction stands still before it fails.
const HOP_WITHIN: Duration = Duration::from_secs(10);
/// More events than any run needs: a run that makes more goes in circles.
const MOST_EVENTS: u64 = 2_000_000;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// What it consisted of.
    pub setup: Setup,
    /// What broke; nothing, or it is a bug.
    pub violations: Vec<String>,
    /// Events.
    pub events: u64,
    /// Time that passed in it.
    pub lasted: Duration,
    /// Memberships that were formed.
    pub epochs: u64,
    /// Coordinator processes.
    pub coordinators: u64,
    /// Worker processes.
    pub processes: u64,
    /// Steps that were computed again from a checkpoint.
    pub replaced: u64,
    /// The state at the end.
    pub state: Option<u64>,
    /// What happened, a line each, where it was asked for.
    pub log: Vec<String>,
}

/// Runs a simulation to its end, or to the first thing that breaks.
#[must_use]
pub fn run(setup: &Setup, log: bool) -> Report {
    World::new(setup.clone(), log).run()
}

/// Something that happens.
#[derive(Debug)]
enum Happening {
    StartWorker {
        host: u32,
    },
    StartCoordinator,
    Tick {
        start: u64,
    },
    Beat {
        process: usize,
    },
    DataPrepared {
        start: u64,
    },
    Attempt {
        process: usize,
        attempt: u64,
        asked: Box<Connect>,
    },
    Answered {
        process: usize,
        attempt: u64,
        asked: Box<Connect>,
        answer: Result<(u64, Welcome), ConnectFailure>,
    },
    /// The next message of a connection arrives.
    ToCoordinator {
        connection: ConnectionId,
    },
    /// The next message of a connection arrives.
    ToWorker {
        connection: ConnectionId,
    },
    LostAtCoordinator {
        connection: ConnectionId,
    },
    LostAtWorker {
        connection: ConnectionId,
    },
    Input {
        process: usize,
        input: Box<Input>,
    },
    OrderDone {
        process: usize,
        turn: u64,
        given: Given,
    },
    ReduceOverdue {
        process: usize,
        turn: u64,
    },
    LookAtRings,
    Share {
        process: usize,
        copy: u64,
        asked: Box<machine::Copy>,
    },
    Shared {
        process: usize,
        copy: u64,
        asked: Box<machine::Copy>,
        found: Result<StateCopy, String>,
    },
    Saved {
        process: usize,
        take: Box<TakeCheckpoint>,
        state: u64,
    },
    Written {
        start: u64,
    },
    Told {
        start: u64,
        event: Box<engine::Event>,
    },
    LeaveOverdue {
        process: usize,
    },
    Fault(Fault),
    Heal,
}

struct Entry {
    at: Duration,
    number: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

struct World {
    setup: Setup,
    rng: Rng,
    now: Duration,
    agenda: BinaryHeap<Reverse<Entry>>,
    events: u64,
    data: Arc<RunData>,
    disk: Disk,
    links: Links,
    connections: BTreeMap<ConnectionId, Connection>,
    coordinator: Option<Coordinator>,
    coordinators: u64,
    processes: Vec<Process>,
    /// The process of each host.
    hosts: Vec<Option<usize>>,
    storage_broken_until: Duration,
    healed: bool,
    outcome: Option<JobOutcome>,
    facts: Facts,
    log: Option<Vec<String>>,
}

impl World {
    fn new(setup: Setup, log: bool) -> Self {
        let data = job::data(&setup);
        let facts = Facts::new(trajectory(&data.planner));
        let mut rng = Rng::new(setup.seed);
        let faults = schedule(&setup, &mut rng);
        let mut world = Self {
            now: Duration::ZERO,
            agenda: BinaryHeap::new(),
            events: 0,
            data,
            disk: Disk::default(),
            links: Links::default(),
            connections: BTreeMap::new(),
            coordinator: None,
            coordinators: 0,
            processes: Vec::new(),
            hosts: vec![None; setup.hosts as usize],
            storage_broken_until: Duration::ZERO,
            healed: false,
            outcome: None,
            facts,
            log: log.then(Vec::new),
            rng,
            setup,
        };
        for (at, fault) in faults {
            world.at(at, Happening::Fault(fault));
        }
        world.at(world.setup.faults_for, Happening::Heal);
        world.at(Duration::ZERO, Happening::StartCoordinator);
        for host in 0..world.setup.hosts {
            let after = world.rng.millis(0, 300);
            world.at(after, Happening::StartWorker { host });
        }
        world
    }

    fn run(mut self) -> Report {
        let deadline = self.setup.faults_for + HEALED_WITHIN;
        while self.outcome.is_none() && self.facts.violations.is_empty() {
            let Some(Reverse(entry)) = self.agenda.pop() else {
                break;
            };
            self.events += 1;
            self.now = entry.at;
            if self.now > deadline {
                break;
            }
            if self.events > MOST_EVENTS {
                let last = format!("circles: {:?} again and again", entry.happening);
                self.facts.violations.push(last);
            }
            self.happen(entry.happening);
        }
        self.facts.end(&self.outcome, &self.disk, &self.data);
        self.describe();
        Report {
            events: self.events,
            lasted: self.now,
            epochs: self.facts.epochs,
            coordinators: self.coordinators,
            processes: self.processes.len() as u64,
            replaced: self.disk.replaced.len() as u64,
            state: self.disk.checkpoints.get(&Step(self.setup.steps)).copied(),
            violations: self.facts.violations,
            setup: self.setup,
            log: self.log.unwrap_or_default(),
        }
    }

    /// Tells where everybody stands at the end.
    fn describe(&mut self) {
        if self.log.is_none() {
            return;
        }
        let standing: Vec<String> = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, own)| own.alive)
            .map(|(number, own)| {
                format!(
                    "worker {number} on host {}: paused until {:?}, hangs {}, connection {:?}, trainer {:?}, {:?}",
                    own.host, own.paused_until, own.hangs, own.connection, own.trainer, own.machine
                )
            })
            .collect();
        let job = self
            .coordinator
            .as_ref()
            .and_then(|c| c.engine.job().cloned());
        for line in standing {
            self.say(|| line);
        }
        self.say(|| format!("{job:?}"));
    }

    fn at(&mut self, at: Duration, happening: Happening) {
        let number = self.events + self.agenda.len() as u64;
        // Strictly growing, so that what is arranged first happens first.
        self.events += 1;
        let entry = Entry {
            at: at.max(self.now),
            number,
            happening,
        };
        self.agenda.push(Reverse(entry));
    }

    fn after(&mut self, wait: Duration, happening: Happening) {
        self.at(self.now + wait, happening);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>10.4} {}", self.now.as_secs_f64(), line()));
        }
    }

    /// The moment from which on a process runs, if that is not now.
    fn resumes(&self, process: usize) -> Option<Duration> {
        let until = self.processes[process].paused_until;
        (until > self.now).then_some(until)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartWorker { host } => self.start_worker(host),
            Happening::StartCoordinator => self.start_coordinator(),
            Happening::Tick { start } => self.tick(start),
            Happening::Beat { process } => self.beat(process),
            Happening::DataPrepared { start } => {
                let (job, data) = (job::id(), self.data.clone());
                self.tell_coordinator(start, engine::Event::DataPrepared { job, data });
            }
            Happening::Attempt {
                process,
                attempt,
                asked,
            } => self.attempt(process, attempt, asked),
            Happening::Answered {
                process,
                attempt,
                asked,
                answer,
            } => self.answered(process, attempt, asked, answer),
            Happening::ToCoordinator { connection } => self.arrive_up(connection),
            Happening::ToWorker { connection } => self.arrive_down(connection),
            Happening::LostAtCoordinator { connection } => self.lost_at_coordinator(connection),
            Happening::LostAtWorker { connection } => self.lost_at_worker(connection),
            Happening::Input { process, input } => self.input(process, input),
            Happening::OrderDone {
                process,
                turn,
                given,
            } => self.order_done(process, turn, given),
            Happening::ReduceOverdue { process, turn } => self.reduce_overdue(process, turn),
            Happening::LookAtRings => self.look_at_rings(),
            Happening::Share {
                process,
                copy,
                asked,
            } => self.share(process, copy, asked),
            Happening::Shared {
                process,
                copy,
                asked,
                found,
            } => self.shared(process, copy, *asked, found),
            Happening::Saved {
                process,
                take,
                state,
            } => self.saved(process, *take, state),
            Happening::Written { start } => self.written(start),
            Happening::Told { start, event } => self.tell_coordinator(start, *event),
            Happening::LeaveOverdue { process } => {
                self.input(process, Box::new(Input::LeaveOverdue));
            }
            Happening::Fault(fault) => self.fault(fault),
            Happening::Heal => self.heal(),
        }
    }
}

/// Processes come and go.
impl World {
    fn start_worker(&mut self, host: u32) {
        let running = self.hosts[host as usize];
        if running.is_some_and(|process| self.processes[process].alive) {
            return;
        }
        let number = self.processes.len();
        let (process, first) = Process::start(number, host);
        self.processes.push(process);
        self.hosts[host as usize] = Some(number);
        self.say(|| format!("worker {number} starts on host {host}"));
        self.after(BEAT, Happening::Beat { process: number });
        self.obey(number, first);
    }

    /// Ends a process; its connection breaks.
    fn end_worker(&mut self, process: usize) {
        self.processes[process].alive = false;
        self.say(|| format!("worker {process} ends"));
        if let Some(connection) = self.processes[process].connection.take() {
            self.close_worker_end(connection);
        }
    }

    fn start_coordinator(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        let continued = self.disk.continued();
        let checkpoint = self.disk.newest_checkpoint();
        let term = self.disk.next_term();
        self.coordinators += 1;
        let start = self.coordinators;
        self.say(|| format!("coordinator {start} starts in term {term}: {continued:?}"));
        self.coordinator = Some(Coordinator::new(start, term, self.now));
        let terms = job::terms(&self.setup, checkpoint, continued);
        self.after(TICK, Happening::Tick { start });
        self.tell_coordinator(start, engine::Event::Submitted(terms));
    }

    /// Ends the coordinator. Of what it was writing, some may have reached the disk.
    fn end_coordinator(&mut self) {
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

    fn tick(&mut self, start: u64) {
        if self.coordinator.as_ref().is_some_and(|c| c.start == start) {
            self.after(TICK, Happening::Tick { start });
            self.tell_coordinator(start, engine::Event::Tick);
        }
    }

    fn beat(&mut self, process: usize) {
        if !self.processes[process].alive {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(resumes, Happening::Beat { process });
            return;
        }
        self.after(BEAT, Happening::Beat { process });
        self.send_up(process, Event::Heartbeat(wire::Heartbeat::default()));
    }
}

/// The coordinator's side.
impl World {
    /// Feeds an event to a coordinator, unless that is gone; later, where it is paused.
    fn tell_coordinator(&mut self, start: u64, event: engine::Event) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.start == start) else {
            return;
        };
        if coordinator.paused_until > self.now {
            let resumes = coordinator.paused_until;
            let event = Box::new(event);
            self.at(resumes, Happening::Told { start, event });
            return;
        }
        let clock = coordinator.clock(self.now);
        let actions = coordinator.engine.step(event, clock);
        for action in actions {
            self.perform(start, action);
        }
    }

    fn perform(&mut self, start: u64, action: Action) {
        match action {
            Action::AnswerHello(_) | Action::AnswerSubmit(_) => {}
            Action::PrepareData(_) => {
                let wait = self.rng.millis(1, 20);
                self.after(wait, Happening::DataPrepared { start });
            }
            Action::Send { to, command } => self.send_down(to, command),
            Action::AppendLedger { record, .. } => {
                self.queue_write(start, Write::Append(Box::new(record)));
            }
            Action::RewindLedger { first_step, .. } => {
                self.queue_write(start, Write::Rewind(first_step));
            }
            Action::Hangup(worker) => {
                let session = self.coordinator.as_mut();
                let session = session.and_then(|c| c.sessions.remove(&worker));
                if let Some((_, connection)) = session {
                    self.close_coordinator_end(connection);
                }
            }
            Action::Notify(notice) => self.notice(&notice),
            Action::Stop => self.end_coordinator(),
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let (term, now) = (self.disk.term, self.now);
        self.say(|| format!("-- {notice:?}"));
        match notice {
            Notice::EpochFormed(epoch) => self.facts.formed(term, epoch),
            Notice::StepCommitted(step) => self.facts.told(step),
            Notice::Ended(outcome) => self.outcome = Some(outcome.clone()),
            Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Planned { .. }
            | Notice::Waiting(_)
            | Notice::MemberLost(_)
            | Notice::RolledBack { .. }
            | Notice::CheckpointSaved { .. }
            | Notice::CheckpointFailed { .. }
            | Notice::Draining(_) => {
                let _ = now;
            }
        }
    }

    fn queue_write(&mut self, start: u64, write: Write) {
        let takes = self.rng.micros(200, 3000);
        let Some(coordinator) = self.coordinator.as_mut() else {
            return;
        };
        let done = (self.now + takes).max(coordinator.written_by);
        coordinator.written_by = done;
        let early = match (&write, self.setup.planted) {
            (Write::Append(record), Some(Planted::CommitBeforeLedger)) => Some(record.step),
            (Write::Append(_) | Write::Rewind(_), _) => None,
        };
        coordinator.writes.push_back(write);
        self.at(done, Happening::Written { start });
        if let Some(step) = early {
            let event = Box::new(engine::Event::LedgerDurable {
                job: job::id(),
                step,
            });
            self.after(Duration::ZERO, Happening::Told { start, event });
        }
    }

    fn written(&mut self, start: u64) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.start == start) else {
            return;
        };
        let (term, write) = (coordinator.term, coordinator.writes.pop_front());
        let Some(write) = write else { return };
        let step = match &write {
            Write::Append(record) => Some(record.step),
            Write::Rewind(_) => None,
        };
        let taken = self.write(term, write);
        let job = job::id();
        let event = match (step, taken) {
            (Some(step), Ok(())) => engine::Event::LedgerDurable { job, step },
            (None, Ok(())) => return,
            (step, Err(_)) => engine::Event::LedgerFailed {
                job,
                step: step.unwrap_or_default(),
                message: "fenced".into(),
            },
        };
        let wait = self.rng.micros(1, 300);
        let event = Box::new(event);
        self.after(wait, Happening::Told { start, event });
    }

    fn write(&mut self, term: Term, write: Write) -> Result<(), super::disk::Fenced> {
        match write {
            Write::Append(record) => {
                self.facts.recorded(&record, &self.disk, &self.data);
                self.disk.append(term, *record)
            }
            Write::Rewind(step) => self.disk.rewind(term, step),
        }
    }
}

/// Connections.
impl World {
    /// A worker's attempt to open a session reaches the coordinator, or does not.
    fn attempt(&mut self, process: usize, attempt: u64, asked: Box<Connect>) {
        let own = &self.processes[process];
        if !own.alive || own.attempts != attempt {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(
                resumes,
                Happening::Attempt {
                    process,
                    attempt,
                    asked,
                },
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
        let paused = self
            .coordinator
            .as_ref()
            .is_some_and(|c| c.paused_until > self.now);
        let (answer, wait) = match &self.coordinator {
            None => (unreachable(), self.rng.micros(100, 1000)),
            Some(_) if open > self.now || paused => (unreachable(), Duration::from_secs(2)),
            Some(_) => (self.register(process, &asked), self.rng.micros(100, 2000)),
        };
        self.after(
            wait,
            Happening::Answered {
                process,
                attempt,
                asked,
                answer,
            },
        );
    }

    fn register(
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
            },
        };
        let coordinator = self.coordinator.as_mut().ok_or_else(|| lost("gone"))?;
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
    fn answered(
        &mut self,
        process: usize,
        attempt: u64,
        asked: Box<Connect>,
        answer: Result<(u64, Welcome), ConnectFailure>,
    ) {
        let own = &self.processes[process];
        if !own.alive || own.attempts != attempt {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(
                resumes,
                Happening::Answered {
                    process,
                    attempt,
                    asked,
                    answer,
                },
            );
            return;
        }
        let (start, welcome) = match answer {
            Ok(answer) => answer,
            Err(failure) => return self.feed(process, Input::ConnectFailed(failure)),
        };
        let gone = self.coordinator.as_ref().is_none_or(|c| c.start != start);
        if gone || welcome.term < asked.at_least {
            let failure = ConnectFailure::Lost {
                term: Some(welcome.term),
                message: "the session was not opened".into(),
            };
            return self.feed(process, Input::ConnectFailed(failure));
        }
        self.open(process, start, welcome.term, *asked);
    }

    fn open(&mut self, process: usize, start: u64, term: Term, asked: Connect) {
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
        if let Some(coordinator) = &mut self.coordinator {
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

    fn send_up(&mut self, process: usize, event: Event) {
        let delay = self.rng.micros(50, 1500);
        let Some(connection) = self.processes[process].connection else {
            return;
        };
        let repeats = !matches!(event, Event::Heartbeat(_))
            && std::mem::take(&mut self.processes[process].repeats);
        for _ in 0..=u32::from(repeats) {
            let Some(link) = self.connections.get_mut(&connection) else {
                return;
            };
            let at = (self.now + delay).max(link.last_up);
            link.last_up = at;
            link.up.push_back(event.clone());
            self.at(at, Happening::ToCoordinator { connection });
        }
    }

    fn send_down(&mut self, to: WorkerId, command: Command) {
        let delay = self.rng.micros(50, 1500);
        let Some(coordinator) = &self.coordinator else {
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
        self.at(at, Happening::ToWorker { connection });
    }

    fn arrive_up(&mut self, connection: ConnectionId) {
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
            self.at(opens, Happening::ToCoordinator { connection });
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

    fn arrive_down(&mut self, connection: ConnectionId) {
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
        let at = opens.max(self.processes[process].paused_until);
        if at > self.now {
            self.at(at, Happening::ToWorker { connection });
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
    fn close_worker_end(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        link.worker_end = false;
        let at = link.last_up.max(self.now) + Duration::from_micros(200);
        self.at(at, Happening::LostAtCoordinator { connection });
    }

    fn close_coordinator_end(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        link.coordinator_end = false;
        let at = link.last_down.max(self.now) + Duration::from_micros(200);
        self.at(at, Happening::LostAtWorker { connection });
    }

    fn lost_at_coordinator(&mut self, connection: ConnectionId) {
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
            self.at(opens, Happening::LostAtCoordinator { connection });
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

    fn lost_at_worker(&mut self, connection: ConnectionId) {
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
            self.at(at, Happening::LostAtWorker { connection });
            return;
        }
        link.worker_end = false;
        if self.processes[process].connection == Some(connection) {
            self.processes[process].connection = None;
            self.feed(process, Input::SessionLost("connection reset".into()));
        }
    }
}

/// The workers' side.
impl World {
    /// Feeds an input to a worker, later where it is paused.
    fn input(&mut self, process: usize, input: Box<Input>) {
        if !self.processes[process].alive {
            return;
        }
        match self.resumes(process) {
            Some(resumes) => self.at(resumes, Happening::Input { process, input }),
            None => self.feed(process, *input),
        }
    }

    fn feed(&mut self, process: usize, input: Input) {
        let actions = self.processes[process].machine.step(input);
        self.obey(process, actions);
    }

    fn obey(&mut self, process: usize, actions: Vec<machine::Action>) {
        for action in actions {
            if !self.processes[process].alive {
                return;
            }
            match action {
                machine::Action::Connect(asked) => self.connect(process, asked),
                machine::Action::Send(event) => self.send_up(process, event),
                machine::Action::Fetch { job, .. } => {
                    let wait = self.rng.millis(1, 10);
                    let found = Ok("/sim/data".into());
                    let input = Box::new(Input::Dataset { job, found });
                    self.after(wait, Happening::Input { process, input });
                }
                machine::Action::Copy(asked) => self.copy(process, asked),
                machine::Action::Train(order) => self.processes[process].trainer.order(order),
                machine::Action::Cancel(scope) => {
                    if matches!(scope, machine::Scope::Copy | machine::Scope::Job) {
                        self.processes[process].copies += 1;
                    }
                    self.processes[process].trainer.cancel(scope);
                }
                machine::Action::Exit(exit) => self.exited(process, &exit),
            }
        }
        self.pump(process);
    }

    fn exited(&mut self, process: usize, exit: &weft_worker::agent::WorkerExit) {
        self.say(|| format!("worker {process}: {exit}"));
        let host = self.processes[process].host;
        self.end_worker(process);
        let wait = self.rng.millis(50, 1000);
        self.after(wait, Happening::StartWorker { host });
    }

    fn connect(&mut self, process: usize, asked: Connect) {
        if let Some(connection) = self.processes[process].connection.take() {
            self.close_worker_end(connection);
        }
        let own = &mut self.processes[process];
        own.attempts += 1;
        let attempt = own.attempts;
        let wait = asked.after + self.rng.micros(100, 2000);
        let asked = Box::new(asked);
        self.after(
            wait,
            Happening::Attempt {
                process,
                attempt,
                asked,
            },
        );
    }

    /// Lets a training thread get on.
    fn pump(&mut self, process: usize) {
        loop {
            let own = &mut self.processes[process];
            if !own.alive || own.hangs || own.paused_until > self.now {
                return;
            }
            let Some(order) = own.trainer.begin() else {
                return;
            };
            let turn = own.trainer.turn;
            match self.takes(process, &order) {
                Takes::Time(wait) => {
                    let given = self.given(&order, wait);
                    self.after(
                        wait,
                        Happening::OrderDone {
                            process,
                            turn,
                            given,
                        },
                    );
                    return;
                }
                Takes::Peers => {
                    self.after(HOP_WITHIN, Happening::ReduceOverdue { process, turn });
                    self.look_at_rings();
                    return;
                }
                Takes::Nothing => self.finish(process, Given::default()),
            }
        }
    }

    fn takes(&mut self, process: usize, order: &Order) -> Takes {
        match order {
            Order::Load(_) => Takes::Time(self.rng.millis(20, 400)),
            Order::Compute { .. } => {
                let slowness = 1 + u64::from(self.processes[process].host % 3);
                Takes::Time(self.rng.micros(3000, 20_000) * u32::try_from(slowness).unwrap_or(1))
            }
            Order::Restore(_) => Takes::Time(self.rng.millis(1, 50)),
            Order::Apply { .. } | Order::Adopt { .. } => Takes::Time(self.rng.micros(100, 3000)),
            Order::Reduce(_) => Takes::Peers,
            Order::Snapshot(take) => {
                self.snapshot(process, take.clone());
                Takes::Nothing
            }
            Order::Describe(_)
            | Order::Settle(_)
            | Order::Join(_)
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Unload => Takes::Nothing,
        }
    }

    fn given(&self, order: &Order, elapsed: Duration) -> Given {
        let step = match order {
            Order::Load(loading) => step_of(loading.prepare.resume.as_ref()),
            Order::Restore(restore) => step_of(restore.checkpoint.as_ref()),
            _ => None,
        };
        let state = step.and_then(|step| Some((*self.disk.checkpoints.get(&step)?, step)));
        Given {
            sum: None,
            state,
            elapsed,
        }
    }

    fn order_done(&mut self, process: usize, turn: u64, given: Given) {
        let own = &self.processes[process];
        if !own.alive || own.hangs || own.trainer.turn != turn || own.trainer.running.is_none() {
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(
                resumes,
                Happening::OrderDone {
                    process,
                    turn,
                    given,
                },
            );
            return;
        }
        self.finish(process, given);
        self.pump(process);
    }

    fn finish(&mut self, process: usize, given: Given) {
        let own = &mut self.processes[process];
        let ports = own.ports(process);
        let applies = matches!(own.trainer.running, Some((Order::Apply { .. }, _)));
        let mut answer = own.trainer.finish(given, ports);
        if applies && let Some(loaded) = &own.trainer.loaded {
            self.facts.applied(process, loaded, &self.disk);
        }
        if let Some(Answer::Done(Event::Reduced(report))) = &answer
            && self.setup.planted == Some(Planted::ApplyWithoutCommit)
            && self.rng.chance(50)
        {
            let round = report.round.clone();
            self.apply_early(process, round);
            answer = None;
        }
        if let Some(answer) = answer {
            let wait = self.rng.micros(1, 100);
            let input = Box::new(Input::Answer(answer));
            self.after(wait, Happening::Input { process, input });
        }
    }

    fn apply_early(&mut self, process: usize, round: wire::Round) {
        let trainer = &mut self.processes[process].trainer;
        trainer.order(Order::Apply {
            round,
            update: wire::Update::Apply,
        });
    }

    /// Sums for every epoch all of whose members wait for each other.
    fn look_at_rings(&mut self) {
        let waiting: Vec<(usize, wire::Round, Vec<WorkerId>)> = self
            .processes
            .iter()
            .enumerate()
            .filter_map(|(number, own)| {
                let runs = own.alive && !own.hangs && own.paused_until <= self.now;
                let Some((Order::Reduce(round), _)) = own.trainer.running.as_ref().filter(|_| runs)
                else {
                    return None;
                };
                let epoch = own.trainer.loaded.as_ref()?.epoch()?;
                (epoch.membership == round.membership).then(|| {
                    let members = epoch.members.iter().map(|member| member.worker);
                    (number, round.clone(), members.collect())
                })
            })
            .collect();
        for (_, round, members) in &waiting {
            let there: Vec<usize> = waiting
                .iter()
                .filter(|(_, of, _)| of == round)
                .map(|(number, _, _)| *number)
                .collect();
            let first = there.first().copied();
            let all = there.len() == members.len() && self.reach_each_other(&there);
            if all
                && first.is_some_and(|first| {
                    waiting.iter().any(|(n, of, _)| *n == first && of == round)
                })
            {
                self.sum(&there);
            }
        }
    }

    fn reach_each_other(&mut self, there: &[usize]) -> bool {
        for a in there {
            for b in there {
                let (a, b) = (self.processes[*a].host, self.processes[*b].host);
                let meet = self.links.meet(a, b);
                if a != b && meet > self.now {
                    self.at(meet, Happening::LookAtRings);
                    return false;
                }
            }
        }
        true
    }

    fn sum(&mut self, there: &[usize]) {
        let parts = there.iter().filter_map(|number| {
            let loaded = self.processes[*number].trainer.loaded.as_ref()?;
            Some(loaded.part())
        });
        let sum = parts.fold(0, u64::wrapping_add);
        for number in there {
            let wait = self.rng.micros(100, 3000);
            let trainer = &mut self.processes[*number].trainer;
            let flips = std::mem::take(&mut trainer.flips) && there.len() > 1;
            let given = Given {
                sum: Some(sum ^ u64::from(flips)),
                state: None,
                elapsed: wait,
            };
            // A new turn: this reduction is over, whatever else comes.
            trainer.turn += 1;
            let turn = trainer.turn;
            self.after(
                wait,
                Happening::OrderDone {
                    process: *number,
                    turn,
                    given,
                },
            );
        }
    }

    fn reduce_overdue(&mut self, process: usize, turn: u64) {
        let own = &mut self.processes[process];
        let stuck = own.alive && !own.hangs && own.trainer.turn == turn;
        let Some((Order::Reduce(round), _)) = own.trainer.running.clone().filter(|_| stuck) else {
            return;
        };
        own.trainer.running = None;
        own.trainer.turn += 1;
        let failed = wire::WorkerFailed {
            membership: round.membership,
            kind: ErrorKind::Collective,
            message: "a peer does not answer".into(),
            suspect: None,
        };
        let input = Box::new(Input::Answer(Answer::Failed(failed)));
        self.input(process, input);
    }

    fn snapshot(&mut self, process: usize, take: TakeCheckpoint) {
        let Some(loaded) = &self.processes[process].trainer.loaded else {
            return;
        };
        let state = loaded.state;
        self.facts.snapshot(loaded, &take);
        let wait = self.rng.millis(2, 400);
        let take = Box::new(take);
        self.after(
            wait,
            Happening::Saved {
                process,
                take,
                state,
            },
        );
    }

    fn saved(&mut self, process: usize, take: TakeCheckpoint, state: u64) {
        if !self.processes[process].alive {
            return;
        }
        let event = if self.now < self.storage_broken_until {
            Event::CheckpointFailed(wire::CheckpointFailed {
                membership: take.membership,
                checkpoint: take.checkpoint,
                kind: ErrorKind::Storage,
                message: "no space left on device".into(),
            })
        } else {
            self.disk
                .checkpoints
                .insert(take.checkpoint.next_step, state);
            Event::CheckpointWritten(wire::CheckpointWritten {
                membership: take.membership,
                checkpoint: take.checkpoint,
                bytes: 8,
                elapsed: Duration::ZERO,
            })
        };
        self.input(process, Box::new(Input::Answer(Answer::Done(event))));
    }

    fn copy(&mut self, process: usize, asked: machine::Copy) {
        let own = &mut self.processes[process];
        own.copies += 1;
        let copy = own.copies;
        let wait = self.rng.micros(200, 30_000);
        let asked = Box::new(asked);
        self.after(
            wait,
            Happening::Share {
                process,
                copy,
                asked,
            },
        );
    }

    /// The source takes its state, between two orders.
    fn share(&mut self, process: usize, copy: u64, asked: Box<machine::Copy>) {
        let to = self.processes[process].host;
        let source = self.processes.iter().find(|own| own.worker == asked.source);
        let source = source.filter(|own| {
            let reached = self.links.meet(to, own.host) <= self.now;
            own.alive && !own.hangs && own.paused_until <= self.now && reached
        });
        let loaded = source.and_then(|own| own.trainer.loaded.as_ref());
        let found = loaded
            .map(|loaded| StateCopy::at(pack(loaded.state, loaded.next_step)))
            .ok_or_else(|| "the source does not answer".to_owned());
        let wait = match &found {
            Ok(_) => self.rng.millis(1, 200),
            Err(_) => Duration::from_secs(2),
        };
        self.after(
            wait,
            Happening::Shared {
                process,
                copy,
                asked,
                found,
            },
        );
    }

    fn shared(
        &mut self,
        process: usize,
        copy: u64,
        asked: machine::Copy,
        found: Result<StateCopy, String>,
    ) {
        if self.processes[process].copies != copy {
            return;
        }
        let input = Box::new(Input::Copied {
            membership: asked.membership,
            source: asked.source,
            found,
        });
        self.input(process, input);
    }
}

/// What an order waits for.
enum Takes {
    Nothing,
    Time(Duration),
    Peers,
}

/// What goes wrong, and how it is healed.
impl World {
    fn running(&self, host: u32) -> Option<usize> {
        let process = self.hosts[host as usize]?;
        self.processes[process].alive.then_some(process)
    }

    fn fault(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.say(|| format!("** {fault:?}"));
        match fault {
            Fault::KillWorker { host, back_after } => {
                if let Some(process) = self.running(host) {
                    self.end_worker(process);
                }
                self.after(back_after, Happening::StartWorker { host });
            }
            Fault::StopWorker { host, back_after } => {
                if let Some(process) = self.running(host) {
                    self.input(process, Box::new(Input::StopRequested));
                    let wait = Duration::from_secs(50);
                    self.after(wait, Happening::LeaveOverdue { process });
                }
                self.after(back_after, Happening::StartWorker { host });
            }
            Fault::PauseWorker { host, lasts } => {
                if let Some(process) = self.running(host) {
                    self.processes[process].paused_until = self.now + lasts;
                    self.at(self.now + lasts, Happening::LookAtRings);
                }
            }
            Fault::HangWorker { host } => {
                if let Some(process) = self.running(host) {
                    self.processes[process].hangs = true;
                }
            }
            Fault::Reset { host } => {
                let process = self.running(host);
                let connection = process.and_then(|p| self.processes[p].connection);
                if let Some(connection) = connection {
                    self.close_coordinator_end(connection);
                    if let Some(link) = self.connections.get_mut(&connection) {
                        link.coordinator_end = true;
                    }
                    self.after(Duration::ZERO, Happening::LostAtCoordinator { connection });
                }
            }
            Fault::Block {
                host,
                up,
                down,
                lasts,
            } => {
                let until = self.now + lasts;
                for (blocked, direction) in [(up, Direction::Up), (down, Direction::Down)] {
                    if blocked {
                        self.links.block(host, direction, until);
                    }
                }
            }
            Fault::Separate { a, b, lasts } => {
                self.links.separate(a, b, self.now + lasts);
            }
            Fault::KillCoordinator { back_after } => {
                self.end_coordinator();
                self.after(back_after, Happening::StartCoordinator);
            }
            Fault::PauseCoordinator { lasts } => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.paused_until = self.now + lasts;
                }
            }
            Fault::BreakStorage { lasts } => self.storage_broken_until = self.now + lasts,
            Fault::Repeat { host } => {
                if let Some(process) = self.running(host) {
                    self.processes[process].repeats = true;
                }
            }
            Fault::Scale { workers } => self.scale(workers),
            Fault::FlipBit { host } => {
                if let Some(process) = self.running(host) {
                    self.processes[process].trainer.flips = true;
                }
            }
        }
        if self.setup.planted == Some(Planted::CountTwice) {
            for process in &mut self.processes {
                process.trainer.counts_twice = true;
            }
        }
    }

    fn scale(&mut self, workers: u32) {
        if let Some(start) = self.coordinator.as_ref().map(|c| c.start) {
            let job = job::id();
            self.tell_coordinator(start, engine::Event::ScaleRequested { job, workers });
        }
    }

    fn heal(&mut self) {
        self.say(|| "** everything is healed".into());
        self.healed = true;
        self.storage_broken_until = Duration::ZERO;
        for host in 0..self.setup.hosts {
            let hung = self
                .running(host)
                .filter(|process| self.processes[*process].hangs);
            if let Some(process) = hung {
                self.end_worker(process);
            }
        }
        self.at(self.now, Happening::StartCoordinator);
        self.scale(self.setup.workers);
        for host in 0..self.setup.hosts {
            self.at(self.now, Happening::StartWorker { host });
        }
        self.look_at_rings();
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

impl Facts {
    fn end(&mut self, outcome: &Option<JobOutcome>, disk: &Disk, data: &RunData) {
        invariants::end(self, outcome.as_ref(), disk, data);
    }
}
