//! What a job was submitted with, and the limits that all jobs share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use weft_common::checkpoint;
use weft_common::id::{Digest, JobId, Step};
use weft_common::wire::{CheckpointRef, Update, WorkerFacts};

/// What a job was submitted with, as far as the engine needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTerms {
    /// The job.
    pub id: JobId,
    /// The recipe as JSON, handed to workers as it is.
    pub recipe_json: String,
    /// Jobs of a higher one come first.
    pub priority: i32,
    /// Workers that the job wants.
    pub workers: u32,
    /// Workers that must be ready to start at once.
    pub gang: u32,
    /// Workers that suffice once `form_within` has passed, and to go on.
    pub min_workers: u32,
    /// What its workers must be.
    pub needs: Needs,
    /// Workers that it can be scaled to.
    pub max_workers: u32,
    /// How long to wait for workers.
    pub form_within: Duration,
    /// Steps between checkpoints; 0 keeps only the final one.
    pub save_steps: u64,
    /// Folder of the checkpoints.
    pub checkpoints_dir: PathBuf,
    /// What happens when a summed gradient is not finite.
    pub on_non_finite: OnNonFinite,
    /// Newest complete checkpoint.
    pub resume: Option<CheckpointRef>,
    /// What the ledger of an earlier coordinator says, where this one goes on with it.
    pub continued: Option<Continued>,
}

/// What a job's workers must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Memory of the device; a worker that does not tell its own suits every job.
    pub memory_bytes: u64,
    /// Labels that a worker must carry.
    pub labels: BTreeMap<String, String>,
}

impl Needs {
    /// Whether a worker is that.
    #[must_use]
    pub fn suits(&self, facts: &WorkerFacts) -> bool {
        let memory = facts.memory_bytes == 0 || facts.memory_bytes >= self.memory_bytes;
        memory
            && self
                .labels
                .iter()
                .all(|(key, value)| facts.labels.get(key) == Some(value))
    }
}

/// Where an earlier coordinator of the same job got to. Its workers may still hold that state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// As many steps are committed.
    pub committed: Step,
    /// The last of them, where there is one.
    pub last: Option<CommittedSum>,
}

/// The sum of a committed step. A worker that reduced it and missed the commit can still apply it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedSum {
    /// The step.
    pub step: Step,
    /// Digest of the sum.
    pub digest: Digest,
    /// What members do with it.
    pub update: Update,
}

impl JobTerms {
    /// The step that a run without workers of its own starts with.
    #[must_use]
    pub fn checkpointed(&self) -> Step {
        self.resume.as_ref().map_or(Step(0), |from| from.next_step)
    }

    /// The first step to commit.
    #[must_use]
    pub fn start(&self) -> Step {
        let continued = self.continued.as_ref();
        continued.map_or_else(|| self.checkpointed(), |continued| continued.committed)
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
    /// The job ends with an error; but where members scale the loss, only after many such steps in a row.
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
    /// Jobs that may wait or run at once.
    pub max_jobs: usize,
    /// Jobs that are looked at when workers are given out, from the first in order.
    pub placed_jobs: usize,
    /// How often workers send heartbeats.
    pub heartbeat_every: Duration,
    /// Silence after which a worker counts as dead.
    pub dead_after: Duration,
    /// A registered worker that has not attached by then is forgotten.
    pub attach_within: Duration,
    /// A gap between ticks from which on the coordinator itself was paused; silence during it proves nothing.
    pub own_pause: Duration,
    /// How long a job that has lost all its workers waits for those that hold its state, before it goes back to its
    /// newest checkpoint.
    pub reattach_within: Duration,
    /// How long a step waits, sealed but for that, for a joiner that copies its state.
    pub join_within: Duration,
    /// The same for one whose last copy came too late for that.
    pub join_at_most: Duration,
    /// How long a joiner may take to copy the state.
    pub sync_within: Duration,
    /// A member that has work and says nothing of it for so long, or for `stalled_factor` times as long as its slots take,
    /// hangs.
    pub stalled_after: Duration,
    /// See `stalled_after`.
    pub stalled_factor: u32,
    /// The same for a member's micro-batch as long as nobody has computed one, so that nobody knows how long they take.
    pub first_slot_within: Duration,
    /// How long a worker may take to load a job or to restore a checkpoint.
    pub load_within: Duration,
    /// How long a checkpoint may take, before another member writes the next one.
    pub save_within: Duration,
    /// How long the last checkpoint of a job may take.
    pub drain_within: Duration,
    /// How long a final checkpoint that fails is tried again.
    pub save_again_within: Duration,
    /// How long dismissed workers may take to hang up.
    pub dismiss_within: Duration,
    /// Whether the coordinator stays when another one has taken its last job over, as a queue does.
    pub outlives_jobs: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Design target of one coordinator.
            max_workers: 512,
            max_jobs: 20_000,
            placed_jobs: 256,
            // Five heartbeats fit into the time after which silence means death. With the driver's tick on top, a worker
            // that stands still is noticed within 1.5 s.
            heartbeat_every: Duration::from_millis(250),
            dead_after: Duration::from_millis(1350),
            attach_within: Duration::from_secs(5),
            // Two heartbeats: what is unheard after a pause that does not count as one has more than half of `dead_after`
            // left to be heard.
            own_pause: Duration::from_millis(500),
            reattach_within: Duration::from_secs(10),
            join_within: Duration::from_secs(2),
            join_at_most: Duration::from_secs(30),
            sync_within: Duration::from_secs(300),
            stalled_after: Duration::from_secs(30),
            stalled_factor: 8,
            first_slot_within: Duration::from_secs(600),
            load_within: Duration::from_secs(1800),
            save_within: Duration::from_secs(600),
            drain_within: Duration::from_secs(600),
            save_again_within: Duration::from_secs(90),
            dismiss_within: Duration::from_secs(5),
            outlives_jobs: false,
        }
    }
}
