//! What goes wrong, and when.

use std::time::Duration;

use super::rng::Rng;
use super::setup::Setup;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A worker process is killed; another one starts on its host later.
    KillWorker {
        /// Where.
        host: u32,
        /// How long the host has none.
        back_after: Duration,
    },
    /// A worker process is told to stop; another one starts later.
    StopWorker {
        /// Where.
        host: u32,
        /// How long the host has none.
        back_after: Duration,
    },
    /// A worker process does not run for a while (SIGSTOP, SIGCONT; a machine that swaps).
    PauseWorker {
        /// Where.
        host: u32,
        /// How long.
        lasts: Duration,
    },
    /// A worker's training thread hangs; the rest of the process goes on.
    HangWorker {
        /// Where.
        host: u32,
    },
    /// A connection between a worker and the coordinator breaks.
    Reset {
        /// Whose.
        host: u32,
    },
    /// Nothing gets through between a worker and the coordinator.
    Block {
        /// Whose.
        host: u32,
        /// From worker to coordinator.
        up: bool,
        /// From coordinator to worker.
        down: bool,
        /// How long.
        lasts: Duration,
    },
    /// Nothing gets through between two workers.
    Separate {
        /// One.
        a: u32,
        /// The other.
        b: u32,
        /// How long.
        lasts: Duration,
    },
    /// The coordinator is killed; another one starts on its disk later.
    KillCoordinator {
        /// How long there is none.
        back_after: Duration,
    },
    /// The coordinator does not run for a while: to it, the clock jumps.
    PauseCoordinator {
        /// How long.
        lasts: Duration,
    },
    /// A second coordinator is started on the same disk, while the first one still lives: paused for a while, or merely
    /// taken for dead. Workers keep their connections to the first one until those end.
    SecondCoordinator {
        /// How long the first one does not run.
        first_sleeps: Duration,
        /// Between the second one's fence and its reading of the ledger.
        reads_after: Duration,
    },
    /// Checkpoints cannot be written for a while.
    BreakStorage {
        /// How long.
        lasts: Duration,
    },
    /// A worker says the same thing twice.
    Repeat {
        /// Who.
        host: u32,
    },
    /// Someone wants another number of workers.
    Scale {
        /// How many.
        workers: u32,
    },
    /// A worker's memory loses a bit.
    FlipBit {
        /// Whose.
        host: u32,
        /// Where.
        flip: Flip,
    },
}

/// Where a worker's memory loses a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flip {
    /// In the sum over all members, when it has it.
    Sum,
    /// In what it puts into the sum.
    Part,
    /// In what it says of a micro-batch.
    Report,
}

/// What a fault did to somebody: a fault that never does anything tests nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bite {
    /// A worker process was killed.
    WorkerKilled,
    /// A worker process was told to stop.
    WorkerStopped,
    /// A worker process stood still.
    WorkerPaused,
    /// An order never came to its end.
    OrderHung,
    /// A connection broke.
    ConnectionReset,
    /// A worker's report waited for a link.
    ReportHeldBack,
    /// A command waited for a link.
    CommandHeldBack,
    /// Members could not reach each other to sum.
    PeersSeparated,
    /// A coordinator was killed.
    CoordinatorKilled,
    /// Something waited for a coordinator that stood still.
    CoordinatorPaused,
    /// A coordinator found that another one had taken over.
    CoordinatorSuperseded,
    /// A checkpoint could not be written.
    CheckpointFailed,
    /// A report was said twice.
    ReportRepeated,
    /// A job was asked to take another number of workers.
    JobScaled,
    /// A sum was wrong.
    SumFlipped,
    /// What a worker put into a sum was wrong.
    PartFlipped,
    /// A worker said something wrong of a micro-batch.
    ReportFlipped,
}

impl Bite {
    /// All there are.
    pub const ALL: [Self; 17] = [
        Self::WorkerKilled,
        Self::WorkerStopped,
        Self::WorkerPaused,
        Self::OrderHung,
        Self::ConnectionReset,
        Self::ReportHeldBack,
        Self::CommandHeldBack,
        Self::PeersSeparated,
        Self::CoordinatorKilled,
        Self::CoordinatorPaused,
        Self::CoordinatorSuperseded,
        Self::CheckpointFailed,
        Self::ReportRepeated,
        Self::JobScaled,
        Self::SumFlipped,
        Self::PartFlipped,
        Self::ReportFlipped,
    ];
}

/// A mistake put into the simulation's own drivers, to see that the invariants find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A worker adds a micro-batch to its accumulator twice, now and then, and its digest says so.
    CountTwice,
    /// The coordinator's driver says that a record is durable before it is.
    CommitBeforeLedger,
    /// A worker applies a sum as soon as it has it.
    ApplyWithoutCommit,
}

/// The faults of a run, with their times, in order.
pub(super) fn schedule(setup: &Setup, rng: &mut Rng) -> Vec<(Duration, Fault)> {
    let mut faults: Vec<(Duration, Fault)> = (0..setup.faults)
        .map(|_| {
            let at = Duration::from_micros(rng.below(setup.faults_for.as_micros() as u64));
            (at, draw(setup, rng))
        })
        .collect();
    faults.extend(seconds(setup));
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Second coordinators, by a chance of their own.
fn seconds(setup: &Setup) -> Vec<(Duration, Fault)> {
    let mut rng = Rng::new(setup.seed ^ 0x2ED);
    let second = |_| {
        let at = Duration::from_micros(rng.below(setup.faults_for.as_micros() as u64));
        let sleeps = rng.below(3) > 0;
        let fault = Fault::SecondCoordinator {
            first_sleeps: if sleeps {
                rng.millis(1, 8000)
            } else {
                Duration::ZERO
            },
            reads_after: rng.micros(100, 20_000),
        };
        (at, fault)
    };
    (0..setup.second_coordinators).map(second).collect()
}

fn draw(setup: &Setup, rng: &mut Rng) -> Fault {
    let host = u32::try_from(rng.below(u64::from(setup.hosts))).unwrap_or(0);
    let other = u32::try_from(rng.below(u64::from(setup.hosts))).unwrap_or(0);
    match rng.below(20) {
        0..=3 => Fault::KillWorker {
            host,
            back_after: rng.millis(20, 3000),
        },
        4 | 5 => Fault::StopWorker {
            host,
            back_after: rng.millis(20, 3000),
        },
        6 | 7 => Fault::PauseWorker {
            host,
            lasts: rng.millis(50, 5000),
        },
        8 => Fault::HangWorker { host },
        9 => Fault::Reset { host },
        10 | 11 => {
            let way = rng.below(3);
            Fault::Block {
                host,
                up: way != 1,
                down: way != 2,
                lasts: rng.millis(50, 6000),
            }
        }
        12 => Fault::Separate {
            a: host,
            b: other,
            lasts: rng.millis(50, 6000),
        },
        13 | 14 => Fault::KillCoordinator {
            back_after: rng.millis(20, 3000),
        },
        15 => Fault::PauseCoordinator {
            lasts: rng.millis(200, 12_000),
        },
        16 => Fault::BreakStorage {
            lasts: rng.millis(200, 8000),
        },
        17 => Fault::Repeat { host },
        18 => Fault::Scale {
            workers: u32::try_from(
                rng.within(u64::from(setup.min_workers), u64::from(setup.hosts)),
            )
            .unwrap_or(1),
        },
        _ => Fault::FlipBit {
            host,
            flip: match rng.below(3) {
                0 => Flip::Sum,
                1 => Flip::Part,
                _ => Flip::Report,
            },
        },
    }
}
