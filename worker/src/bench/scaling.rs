//! What a step costs on many GPUs: a model with few terms, each of which can be measured.
//!
//! ```text
//! step(W) = slots of the busiest worker × seconds a slot
//!         + tail: how much longer than the mean the slowest of W takes
//!         + update: clipping and optimizer, the same on every worker
//!         + reduce: the all-reduce of the adapter's gradient
//!         + commit: the coordinator's round with all workers and its ledger
//! ```

use serde::{Deserialize, Serialize};

/// A way between two members: a hop takes `latency_seconds`, and a direction carries `bytes_per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Seconds of a hop with nothing to carry.
    pub latency_seconds: f64,
    /// Bytes per second in each direction.
    pub bytes_per_second: f64,
}

/// How the members' GPUs reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Topology {
    /// GPUs of a machine.
    pub gpus_per_node: u32,
    /// Between the GPUs of a machine.
    pub within: Link,
    /// Between machines: one machine's way to the next, all its adapters together.
    pub between: Link,
}

/// What is computed in a step, and what it costs on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Work {
    /// Seconds of a micro-batch.
    pub slot_seconds: f64,
    /// Standard deviation of that, as a share of it.
    pub slot_deviation: f64,
    /// Seconds of clipping and optimizer.
    pub update_seconds: f64,
    /// Bytes that are summed: eight for each of the adapter's parameters.
    pub reduced_bytes: f64,
}

/// What the coordinator's round takes: `base_seconds` and `worker_seconds` for each worker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CommitCost {
    /// Seconds for one worker: two ways there and back, and the ledger's write to disk.
    pub base_seconds: f64,
    /// Seconds that each worker adds.
    pub worker_seconds: f64,
}

/// Seconds of a step, by what they go to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepCost {
    /// Workers.
    pub workers: u32,
    /// Micro-batches of the step.
    pub slots: u32,
    /// Computing the busiest worker's micro-batches.
    pub compute_seconds: f64,
    /// Waiting for the slowest.
    pub tail_seconds: f64,
    /// Clipping and optimizer.
    pub update_seconds: f64,
    /// The all-reduce.
    pub reduce_seconds: f64,
    /// The coordinator's round.
    pub commit_seconds: f64,
    /// All of it.
    pub seconds: f64,
    /// Micro-batches per second over `workers` times those of one worker alone.
    pub efficiency: f64,
}

impl Link {
    /// Seconds of an all-reduce over `members` in a ring: each passes on 2(W−1) times a W-th of the bytes.
    #[must_use]
    pub fn ring_seconds(self, members: u32, bytes: f64) -> f64 {
        let world = f64::from(members.max(1));
        2.0 * (world - 1.0) * (self.latency_seconds + bytes / world / self.bytes_per_second)
    }

    /// The same where hops go along a tree and back, as NCCL does for many members: fewer hops, as many bytes.
    fn tree_seconds(self, members: u32, bytes: f64) -> f64 {
        let world = f64::from(members.max(1));
        let hops = 2.0 * world.log2().ceil();
        hops * self.latency_seconds + 2.0 * (world - 1.0) / world * bytes / self.bytes_per_second
    }

    /// The link whose ring over `members` takes what was measured for a small and a large sum (bytes, seconds).
    ///
    /// Nothing where the two do not tell the terms apart.
    #[must_use]
    pub fn of_measured(members: u32, small: (f64, f64), large: (f64, f64)) -> Option<Self> {
        let world = f64::from(members);
        let hops = 2.0 * (world - 1.0);
        let bytes_per_second = hops / world * (large.0 - small.0) / (large.1 - small.1);
        let latency_seconds = (small.1 / hops - small.0 / world / bytes_per_second).max(0.0);
        let link = Self {
            latency_seconds,
            bytes_per_second,
        };
        (members > 1 && bytes_per_second.is_finite() && bytes_per_second > 0.0).then_some(link)
    }
}

impl Topology {
    /// One machine's GPUs.
    #[must_use]
    pub fn flat(link: Link) -> Self {
        Self {
            gpus_per_node: u32::MAX,
            within: link,
            between: link,
        }
    }

    /// Seconds of an all-reduce over `workers`, machines filled one after another: within each, then between them.
    #[must_use]
    pub fn reduce_seconds(&self, workers: u32, bytes: f64) -> f64 {
        let nodes = workers.div_ceil(self.gpus_per_node);
        let within = self
            .within
            .ring_seconds(workers.min(self.gpus_per_node), bytes);
        let ring = self.between.ring_seconds(nodes, bytes);
        within + ring.min(self.between.tree_seconds(nodes, bytes))
    }
}

impl CommitCost {
    /// Seconds of the round with `workers`.
    #[must_use]
    pub fn seconds(self, workers: u32) -> f64 {
        self.base_seconds + self.worker_seconds * f64::from(workers)
    }
}

/// What a step of `slots` micro-batches costs on `workers`.
#[must_use]
pub fn step_cost(
    work: &Work,
    topology: &Topology,
    commit: CommitCost,
    workers: u32,
    slots: u32,
) -> StepCost {
    let alone = f64::from(slots) * work.slot_seconds + work.update_seconds + commit.seconds(1);
    let share = slots.div_ceil(workers.max(1));
    let compute_seconds = f64::from(share) * work.slot_seconds;
    let tail_seconds = tail(work, workers, share);
    let reduce_seconds = topology.reduce_seconds(workers, work.reduced_bytes);
    let commit_seconds = commit.seconds(workers);
    let seconds =
        compute_seconds + tail_seconds + work.update_seconds + reduce_seconds + commit_seconds;
    StepCost {
        workers,
        slots,
        compute_seconds,
        tail_seconds,
        update_seconds: work.update_seconds,
        reduce_seconds,
        commit_seconds,
        seconds,
        efficiency: alone / seconds / f64::from(workers.max(1)),
    }
}

/// How much longer than the mean the slowest of `workers` takes for `share` micro-batches each: the expected largest of so
/// many normal values is at most √(2 ln W) deviations above their mean. No more than a micro-batch, since an idle worker
/// computes a copy of one that takes long.
fn tail(work: &Work, workers: u32, share: u32) -> f64 {
    let deviation = work.slot_deviation * work.slot_seconds * f64::from(share).sqrt();
    let largest = deviation * (2.0 * f64::from(workers.max(1)).ln()).sqrt();
    largest.min(work.slot_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        slot_seconds: 0.25,
        slot_deviation: 0.01,
        update_seconds: 0.001,
        reduced_bytes: 336e6,
    };
    const COMMIT: CommitCost = CommitCost {
        base_seconds: 0.002,
        worker_seconds: 32e-6,
    };

    fn link(bytes_per_second: f64) -> Link {
        Link {
            latency_seconds: 10e-6,
            bytes_per_second,
        }
    }

    fn cost(topology: &Topology, workers: u32, slots: u32) -> StepCost {
        step_cost(&WORK, topology, COMMIT, workers, slots)
    }

    #[test]
    fn a_link_is_found_again_from_what_its_ring_takes() {
        for members in [2, 3, 16] {
            let truth = link(12e9);
            let seen = |bytes: f64| (bytes, truth.ring_seconds(members, bytes));
            let found = Link::of_measured(members, seen(4096.0), seen(336e6)).unwrap();
            assert!((found.bytes_per_second / truth.bytes_per_second - 1.0).abs() < 1e-6);
            assert!((found.latency_seconds / truth.latency_seconds - 1.0).abs() < 1e-6);
        }
        assert_eq!(Link::of_measured(1, (8.0, 1.0), (16.0, 2.0)), None);
        assert_eq!(Link::of_measured(2, (8.0, 2.0), (16.0, 1.0)), None);
    }

    /// 335 MB over four members on 100 GbE at 11.5 GB/s take 44 ms, as the classic ring's formula says.
    #[test]
    fn four_members_pass_on_one_and_a_half_times_the_bytes() {
        let seconds = link(11.5e9).ring_seconds(4, 335.5e6);
        assert!((seconds - 0.0438).abs() < 2e-4, "{seconds}");
    }

    #[test]
    fn one_worker_alone_is_its_own_measure() {
        let alone = cost(&Topology::flat(link(300e9)), 1, 4);
        assert!((alone.efficiency - 1.0).abs() < 1e-12);
        assert_eq!((alone.reduce_seconds, alone.tail_seconds), (0.0, 0.0));
    }

    #[test]
    fn a_step_that_cannot_be_shared_out_evenly_pays_for_it() {
        let flat = Topology::flat(link(300e9));
        let (even, odd) = (cost(&flat, 4, 8), cost(&flat, 3, 8));
        assert!((even.compute_seconds - 0.5).abs() < 1e-12);
        assert!((odd.compute_seconds - 0.75).abs() < 1e-12);
        assert!(odd.efficiency < 8.0 / 9.0);
    }

    #[test]
    fn a_slower_way_between_machines_costs_only_where_there_are_several() {
        let fast = Topology {
            gpus_per_node: 8,
            within: link(300e9),
            between: link(300e9),
        };
        let slow = Topology {
            between: link(3e9),
            ..fast
        };
        assert_eq!(cost(&fast, 8, 32), cost(&slow, 8, 32));
        assert!(cost(&slow, 16, 64).efficiency < cost(&fast, 16, 64).efficiency);
    }

    #[test]
    fn efficiency_falls_as_workers_come_and_the_tail_stays_below_a_slot() {
        let topology = Topology {
            gpus_per_node: 8,
            within: link(300e9),
            between: link(45e9),
        };
        let costs = [1, 2, 8, 64, 1024].map(|workers| cost(&topology, workers, 4 * workers));
        assert!(
            costs
                .windows(2)
                .all(|pair| pair[1].efficiency < pair[0].efficiency)
        );
        let wild = Work {
            slot_deviation: 3.0,
            ..WORK
        };
        let wild = step_cost(&wild, &topology, COMMIT, 1024, 4096);
        assert!((wild.tail_seconds - WORK.slot_seconds).abs() < 1e-12);
    }
}
