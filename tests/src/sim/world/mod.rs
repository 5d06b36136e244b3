//! The world: one event after another, in the order of their times.

mod agenda;
mod connections;
mod coordinator;
mod faults;
mod processes;
mod rings;
mod sessions;
mod states;
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::Step;
use weft_coordinator::engine::{JobOutcome, RunData};

use self::agenda::{Entry, Happening};
use super::arithmetic::trajectory;
use super::coordinator::Coordinator;
use super::disk::Disk;
use super::faults::{Bite, schedule};
use super::invariants::{self, Facts};
use super::job;
use super::network::{Connection, ConnectionId, Links};
use super::process::Process;
use super::rng::Rng;
use super::setup::Setup;

/// Between looks at the clock, as in the driver.
const TICK: Duration = Duration::from_millis(100);
/// Between looks at the fence, as in the ledger thread.
const FENCE_EVERY: Duration = Duration::from_secs(2);
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
    /// What faults did to somebody.
    pub bites: BTreeSet<Bite>,
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
    /// Those that live, by the number of their start: the last one is where workers find a coordinator, the others are
    /// what is left of earlier ones.
    coordinators: BTreeMap<u64, Coordinator>,
    /// The number of the last start.
    started: u64,
    processes: Vec<Process>,
    /// The process of each host.
    hosts: Vec<Option<usize>>,
    storage_broken_until: Duration,
    healed: bool,
    outcome: Option<JobOutcome>,
    facts: Facts,
    /// What faults did.
    bites: BTreeSet<Bite>,
    /// Steps in which a bit was lost.
    flipped: BTreeSet<Step>,
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
            coordinators: BTreeMap::new(),
            started: 0,
            processes: Vec::new(),
            hosts: vec![None; setup.hosts as usize],
            storage_broken_until: Duration::ZERO,
            healed: false,
            outcome: None,
            facts,
            bites: BTreeSet::new(),
            flipped: BTreeSet::new(),
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
            world.at(after, Happening::StartWorker(host));
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
        let outcome = self.outcome.as_ref();
        invariants::end(&mut self.facts, outcome, &self.disk, &self.data);
        self.describe();
        Report {
            events: self.events,
            lasted: self.now,
            epochs: self.facts.epochs,
            coordinators: self.started,
            processes: self.processes.len() as u64,
            replaced: self.disk.replaced.len() as u64,
            state: self.disk.checkpoints.get(&Step(self.setup.steps)).copied(),
            bites: self.bites,
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
        let jobs = self.coordinators.iter();
        let jobs: Vec<String> = jobs
            .map(|(start, own)| format!("coordinator {start}: {:?}", own.engine.job(&job::id())))
            .collect();
        for line in standing.into_iter().chain(jobs) {
            self.say(|| line);
        }
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

    /// Where workers find a coordinator, if there is one.
    fn serving(&self) -> Option<&Coordinator> {
        self.coordinators.get(&self.started)
    }

    /// The moment from which on a process runs, if that is not now.
    fn resumes(&self, process: usize) -> Option<Duration> {
        let until = self.processes[process].paused_until;
        (until > self.now).then_some(until)
    }
}
