//! What a job was submitted with, and the limits that all jobs share.

use std::path::PathBuf;
use std::time::Duration;

use weft_common::checkpoint;
use weft_common::id::{JobId, Step};
use weft_common::wire::CheckpointRef;

/// What a job was submitted with, as far as the engine needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTerms {
    /// The job.
    pub id: JobId,
    /// The recipe as JSON, handed to workers as it is.
    pub recipe_json: String,
    /// Workers that must be ready to start at once.
    pub workers: u32,
    /// Workers that suffice once `form_within` has passed.
    pub min_workers: u32,
    /// How long to wait for workers.
    pub form_within: Duration,
    /// Steps between checkpoints; 0 keeps only the final one.
    pub save_steps: u64,
    /// Folder of the checkpoints.
    pub checkpoints_dir: PathBuf,
    /// What happens when a summed gradient is not finite.
    pub on_non_finite: OnNonFinite,
    /// State to start from.
    pub resume: Option<CheckpointRef>,
}

impl JobTerms {
    /// The first step to run.
    #[must_use]
    pub fn start(&self) -> Step {
        self.resume.as_ref().map_or(Step(0), |from| from.next_step)
    }

    /// Where the state before `next_step` is written.
    #[must_use]
    pub fn checkpoint_at(&self, next_step: Step) -> CheckpointRef {
        CheckpointRef {
            dir: checkpoint::folder(&self.checkpoints_dir, next_step),
            next_step,
        }
    }

    /// Whether a checkpoint is due once `committed` steps are committed.
    #[must_use]
    pub fn saves_at(&self, committed: Step) -> bool {
        self.save_steps > 0 && committed.0.is_multiple_of(self.save_steps)
    }
}

/// What happens when a summed gradient is not finite or out of range: the same on every member, since the
/// coordinator decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNonFinite {
    /// The job ends with an error.
    #[default]
    Fail,
    /// The step passes without an update.
    Skip,
}

/// Limits that all jobs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Workers that may be registered at once.
    pub max_workers: usize,
    /// How often workers send heartbeats.
    pub heartbeat_every: Duration,
    /// Silence after which a worker counts as dead.
    pub dead_after: Duration,
    /// A registered worker that has not attached by then is forgotten.
    pub attach_within: Duration,
    /// A gap between ticks from which on the coordinator itself was paused; silence during it proves nothing.
    pub own_pause: Duration,
    /// How long members may take to connect to each other.
    pub connect_within: Duration,
    /// How long the last checkpoint of a job may take.
    pub drain_within: Duration,
    /// How long dismissed workers may take to hang up.
    pub dismiss_within: Duration,
}

impl Limits {
    /// For a coordinator whose workers are processes of its own machine.
    ///
    /// There a dead worker closes its connection at once, and no network can fall silent: silence means that the machine
    /// is busy or short of memory, which passes.
    #[must_use]
    pub fn one_machine() -> Self {
        Self {
            dead_after: Duration::from_secs(15),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Design target of one coordinator.
            max_workers: 512,
            // Six heartbeats fit into the time after which silence means death.
            heartbeat_every: Duration::from_millis(250),
            dead_after: Duration::from_millis(1500),
            attach_within: Duration::from_secs(5),
            own_pause: Duration::from_secs(1),
            connect_within: Duration::from_secs(30),
            drain_within: Duration::from_secs(600),
            dismiss_within: Duration::from_secs(5),
        }
    }
}
