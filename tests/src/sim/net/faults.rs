//! What goes wrong on the network, and when.

use std::time::Duration;

use turmoil::Sim;

use super::super::rng::Rng;
use super::hub::Hub;
use super::{COORDINATOR, NetSetup, worker_host};

/// One thing that goes wrong, or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetFault {
    /// A worker's host loses all that runs on it.
    CrashWorker(u32),
    /// It starts again.
    StartWorker(u32),
    /// The coordinator's host loses all that runs on it, but for its disk.
    CrashCoordinator,
    /// It starts again.
    StartCoordinator,
    /// Nothing gets through between a worker and the coordinator.
    Partition(u32),
    /// Nothing gets through from a worker to the coordinator.
    Deafen(u32),
    /// Nothing gets through from the coordinator to a worker.
    Mute(u32),
    /// What is sent between a worker and the coordinator waits.
    Hold(u32),
    /// What waits gets through.
    Release(u32),
    /// Everything gets through again.
    Repair(u32),
    /// A link takes this long, in milliseconds.
    Slow(u32, u64),
}

/// The faults of a run and their ends, with their times, in order.
pub(super) fn schedule(setup: &NetSetup, rng: &mut Rng) -> Vec<(Duration, NetFault)> {
    let mut faults = Vec::new();
    for _ in 0..setup.faults {
        let at = Duration::from_micros(rng.below(setup.faults_for.as_micros() as u64));
        let host = u32::try_from(rng.below(u64::from(setup.hosts))).unwrap_or(0);
        let until = at + rng.millis(50, 4000);
        let (begins, ends) = match rng.below(10) {
            0..=2 => (NetFault::CrashWorker(host), NetFault::StartWorker(host)),
            3 | 4 => (NetFault::CrashCoordinator, NetFault::StartCoordinator),
            5 => (NetFault::Partition(host), NetFault::Repair(host)),
            6 => (NetFault::Deafen(host), NetFault::Repair(host)),
            7 => (NetFault::Mute(host), NetFault::Repair(host)),
            8 => (NetFault::Hold(host), NetFault::Release(host)),
            _ => (
                NetFault::Slow(host, rng.within(10, 400)),
                NetFault::Slow(host, 6),
            ),
        };
        faults.extend([(at, begins), (until, ends)]);
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

pub(super) fn happen(fault: &NetFault, sim: &mut Sim<'_>, hub: &Hub) {
    hub.say(|| format!("** {:?}: {fault:?}", sim.elapsed()));
    match fault {
        NetFault::CrashWorker(host) => {
            if sim.is_host_running(worker_host(*host)) {
                sim.crash(worker_host(*host));
            }
            hub.crashed(*host);
        }
        NetFault::StartWorker(host) => {
            if !sim.is_host_running(worker_host(*host)) {
                sim.bounce(worker_host(*host));
            }
        }
        NetFault::CrashCoordinator => {
            if sim.is_host_running(COORDINATOR) {
                sim.crash(COORDINATOR);
            }
        }
        NetFault::StartCoordinator => {
            if !sim.is_host_running(COORDINATOR) {
                sim.bounce(COORDINATOR);
            }
        }
        NetFault::Partition(host) => sim.partition(worker_host(*host), COORDINATOR),
        NetFault::Deafen(host) => sim.partition_oneway(worker_host(*host), COORDINATOR),
        NetFault::Mute(host) => sim.partition_oneway(COORDINATOR, worker_host(*host)),
        NetFault::Hold(host) => sim.hold(worker_host(*host), COORDINATOR),
        NetFault::Release(host) => sim.release(worker_host(*host), COORDINATOR),
        NetFault::Repair(host) => sim.repair(worker_host(*host), COORDINATOR),
        NetFault::Slow(host, most) => sim.set_link_max_message_latency(
            worker_host(*host),
            COORDINATOR,
            Duration::from_millis(*most),
        ),
    }
}

/// Ends everything that still goes wrong.
pub(super) fn heal(setup: &NetSetup, sim: &mut Sim<'_>, hub: &Hub) {
    happen(&NetFault::StartCoordinator, sim, hub);
    for host in 0..setup.hosts {
        happen(&NetFault::StartWorker(host), sim, hub);
        happen(&NetFault::Release(host), sim, hub);
        happen(&NetFault::Repair(host), sim, hub);
        happen(&NetFault::Slow(host, 6), sim, hub);
    }
}
