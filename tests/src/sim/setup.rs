//! What one run consists of, drawn from its seed.

use std::time::Duration;

use super::faults::Planted;
use super::rng::Rng;

/// What one run consists of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Decides everything.
    pub seed: u64,
    /// Machines, each with one worker process at a time.
    pub hosts: u32,
    /// Workers that the job wants.
    pub workers: u32,
    /// Workers that it needs.
    pub min_workers: u32,
    /// Optimizer steps.
    pub steps: u64,
    /// Micro-batches a step.
    pub slots: u32,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// How long faults go on.
    pub faults_for: Duration,
    /// About how many there are.
    pub faults: u32,
    /// How often a second coordinator is started while the first one lives.
    pub second_coordinators: u32,
    /// A mistake that the invariants must find.
    pub planted: Option<Planted>,
}

impl Setup {
    /// A run with everything that the seed holds.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xC0FF_EE00);
        let hosts = u32::try_from(rng.within(1, 5)).unwrap_or(1);
        let workers = u32::try_from(rng.within(1, u64::from(hosts))).unwrap_or(1);
        let min_workers = u32::try_from(rng.within(1, u64::from(workers))).unwrap_or(1);
        Self {
            seed,
            hosts,
            workers,
            min_workers,
            steps: rng.within(4, 30),
            slots: u32::try_from(rng.within(1, 9)).unwrap_or(1),
            save_steps: rng.within(0, 8),
            faults_for: rng.millis(500, 12_000),
            faults: u32::try_from(rng.within(0, 16)).unwrap_or(0),
            second_coordinators: u32::try_from(rng.below(8).saturating_sub(5)).unwrap_or(0),
            planted: None,
        }
    }

    /// The same without any fault.
    #[must_use]
    pub fn undisturbed(self) -> Self {
        Self {
            faults: 0,
            second_coordinators: 0,
            ..self
        }
    }
}
