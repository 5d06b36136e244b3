//! What a coordinator is started with and what a job is submitted with.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::{JobId, Term};
use weft_common::recipe::Recipe;
use weft_common::storage::StorageError;
use weft_common::wire::CheckpointRef;

use crate::data_source::DataSource;
use crate::engine::{Limits, Needs, OnNonFinite, SubmitRefusal};
use crate::queue::{Queue, Unfit};
use crate::records::RecordsError;

/// How a coordinator runs.
#[derive(Clone)]
pub struct CoordinatorConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it keeps what must survive it.
    pub state_dir: PathBuf,
    /// The newest term that has a claim on what it goes on with; its own will be later.
    pub after: Term,
    /// Prepares datasets.
    pub data: Arc<dyn DataSource>,
    /// What makes it a queue; without, it takes jobs of this process alone, and remembers none.
    pub queue: Option<Queue>,
    /// Limits that all jobs share.
    pub limits: Limits,
}

impl fmt::Debug for CoordinatorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorConfig")
            .field("listen", &self.listen)
            .field("state_dir", &self.state_dir)
            .field("after", &self.after)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A job to run.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The job's id: that of the run it resumes, else a fresh one.
    pub id: JobId,
    /// What people call it; may be empty.
    pub name: String,
    /// The recipe, validated and with absolute paths.
    pub recipe: Recipe,
    /// Jobs of a higher one come first.
    pub priority: i32,
    /// Workers that it wants.
    pub workers: u32,
    /// Workers that must be ready to start at once, if not all that it wants; after `form_within` the recipe's minimum
    /// suffices.
    pub gang: Option<u32>,
    /// What its workers must be.
    pub needs: Needs,
    /// How long to wait for workers.
    pub form_within: Duration,
    /// Where `checkpoints/` and `ledger/` go, on the coordinator's host.
    pub output_dir: PathBuf,
    /// Newest complete checkpoint.
    pub resume: Option<CheckpointRef>,
    /// Whether workers of an earlier coordinator may still hold what its ledger says, beyond that checkpoint.
    pub workers_before: WorkersBefore,
    /// What happens when a summed gradient is not finite.
    pub on_non_finite: OnNonFinite,
}

/// Whether workers outlived an earlier coordinator of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkersBefore {
    /// There was none, or its workers ended with it: the job goes on from its newest checkpoint.
    #[default]
    Gone,
    /// They may come back: the job goes on where the ledger ends.
    MayReturn,
}

impl JobSpec {
    /// Where checkpoints go.
    #[must_use]
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.output_dir.join("checkpoints")
    }

    /// Where the ledger goes.
    #[must_use]
    pub fn ledger_dir(&self) -> PathBuf {
        self.output_dir.join("ledger")
    }

    /// How many checkpoints stay, where the recipe limits them.
    #[must_use]
    pub fn save_total_limit(&self) -> Option<NonZeroU32> {
        self.recipe
            .training
            .save_total_limit
            .and_then(NonZeroU32::new)
    }
}

/// Why a coordinator could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not this host's.
    #[error(
        "cannot listen on {address}: {source}; choose another address or port, or stop what uses it"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The records of the state folder cannot be used.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The state folder cannot be written.
    #[error("cannot keep the coordinator's state: {0}")]
    State(#[from] StorageError),
    /// The state folder holds something else.
    #[error(
        "{path} is not a coordinator's term: {found:?}; remove it if no coordinator uses this folder"
    )]
    Term {
        /// The file.
        path: PathBuf,
        /// Its content.
        found: String,
    },
}

/// Why a job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The coordinator has another one, or ends.
    #[error(transparent)]
    Refused(#[from] SubmitRefusal),
    /// The job asks for no worker, or more than the recipe allows.
    #[error(
        "{workers} workers asked for, but the recipe allows {min} to {max}; change --workers or resources.workers"
    )]
    Workers {
        /// Asked for.
        workers: u32,
        /// The recipe's minimum.
        min: u32,
        /// The recipe's maximum.
        max: u32,
    },
    /// Something is wrong with the job.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Another job has the output folder.
    #[error(
        "output folder {} is that of {}; choose another with --output", output.display(),
        job.as_ref().map_or_else(|| "a job that is being handed in".to_owned(), |job| format!("job {job}"))
    )]
    Output {
        /// The folder.
        output: PathBuf,
        /// Whose it is.
        job: Option<JobId>,
    },
    /// The coordinator's disk does not take the job.
    #[error("the coordinator cannot record the job: {0}")]
    NotRecorded(RecordsError),
    /// The coordinator runs the jobs of its own process.
    #[error(
        "this coordinator runs one recipe and ends with it; start `weft coordinator` without a recipe for a queue"
    )]
    NoQueue,
    /// The coordinator is gone.
    #[error("the coordinator has stopped")]
    Stopped,
}
