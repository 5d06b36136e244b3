//! The same with the real services: coordinator and workers as they are, gRPC and all, on a simulated network.
//!
//! Every host is a runtime of its own with its own clock ([`turmoil`]); links lose, delay and hold back what is sent, in
//! one direction or both, and hosts crash and start again. What stays a stand-in is what has threads of its own, whose
//! time no seed decides: training threads and their ring are tasks that meet in the `hub`, checkpoints are numbers
//! there. The ledger is real, and written where the coordinator orders it.
//!
//! What tokio's own `select!` chooses between branches that are ready at once is drawn outside the seed; a seed repeats
//! the same faults at the same times, and nearly always the same run.

mod coordinator;
mod faults;
mod hub;
mod stream;
mod trainer;
mod worker;

use std::time::Duration;

use turmoil::Builder;

use self::faults::{NetFault, schedule};
use self::hub::Hub;
use super::rng::Rng;

/// What a run on the simulated network consists of.
#[derive(Debug, Clone)]
pub struct NetSetup {
    /// Decides everything.
    pub seed: u64,
    /// Machines with a worker each.
    pub hosts: u32,
    /// Optimizer steps.
    pub steps: u64,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// About how many faults there are.
    pub faults: u32,
    /// How long they go on.
    pub faults_for: Duration,
}

impl NetSetup {
    /// A run with everything that the seed holds.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7EA5_ED00);
        Self {
            seed,
            hosts: u32::try_from(rng.within(1, 4)).unwrap_or(1),
            steps: rng.within(4, 16),
            save_steps: rng.within(0, 5),
            faults: u32::try_from(rng.within(0, 8)).unwrap_or(0),
            faults_for: rng.millis(500, 5000),
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct NetReport {
    /// What it consisted of.
    pub setup: NetSetup,
    /// What broke; nothing, or it is a bug.
    pub violations: Vec<String>,
    /// What was done to somebody.
    pub faults: Vec<NetFault>,
    /// Time that passed in it.
    pub lasted: Duration,
    /// Worker processes.
    pub processes: usize,
    /// Coordinator processes.
    pub coordinators: u64,
}

/// Between looks at the network and the clocks.
const TICK: Duration = Duration::from_millis(2);

/// How long a healed job may take to its end.
const HEALED_WITHIN: Duration = Duration::from_secs(180);

/// The coordinator's host.
const COORDINATOR: &str = "coordinator";

fn worker_host(host: u32) -> String {
    format!("worker-{host}")
}

/// Runs a simulation to its end, or to the first thing that breaks.
///
/// # Panics
/// The machine has no room for a temporary folder.
#[must_use]
pub fn run(setup: &NetSetup) -> NetReport {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let hub = Hub::new(setup, folder.path());
    let mut rng = Rng::new(setup.seed);
    let mut faults = schedule(setup, &mut rng);
    let mut sim = Builder::new()
        .rng_seed(setup.seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(6))
        .build();
    let own = hub.clone();
    sim.host(COORDINATOR, move || coordinator::serve(own.clone()));
    for host in 0..setup.hosts {
        let own = hub.clone();
        sim.host(worker_host(host), move || worker::work(own.clone(), host));
    }
    let mut done = Vec::new();
    let mut healed = false;
    let deadline = setup.faults_for + HEALED_WITHIN;
    while !hub.is_over() && sim.elapsed() < deadline {
        while faults.first().is_some_and(|(at, _)| *at <= sim.elapsed()) {
            let (_, fault) = faults.remove(0);
            faults::happen(&fault, &mut sim, &hub);
            done.push(fault);
        }
        if !healed && sim.elapsed() >= setup.faults_for && faults.is_empty() {
            faults::heal(setup, &mut sim, &hub);
            healed = true;
        }
        if let Err(error) = sim.step() {
            hub.broken(format!("a host failed: {error}"));
        }
    }
    let lasted = sim.elapsed();
    drop(sim);
    let (violations, processes, coordinators) = hub.end();
    NetReport {
        setup: setup.clone(),
        violations,
        faults: done,
        lasted,
        processes,
        coordinators,
    }
}
