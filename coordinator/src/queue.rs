//! What makes a coordinator a queue: it looks at jobs before it takes them, remembers them, and leaves their results.

use std::fmt;
use std::sync::Arc;

use weft_common::wire::ErrorKind;

use crate::config::JobSpec;
use crate::engine::{JobOutcome, Notice};

/// What a queue needs beyond a coordinator that runs one job.
#[derive(Clone)]
pub struct Queue {
    /// Looks at jobs before they are taken.
    pub preflight: Arc<dyn Preflight>,
    /// Leaves what a job leaves.
    pub attend: Arc<dyn Attend>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

/// What a job that is handed in starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// Nothing: an output folder that was used is refused.
    Scratch,
    /// What an earlier run left in the output folder.
    Newest,
}

/// What is wrong with a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unfit {
    /// What kind of problem; of several the one that the others stand on.
    pub kind: ErrorKind,
    /// All of it, with the remedies.
    pub text: String,
}

impl From<String> for Unfit {
    /// A problem that nobody sorts.
    fn from(text: String) -> Self {
        let kind = ErrorKind::Internal;
        Self { kind, text }
    }
}

/// Looks at jobs before they are taken. Runs on threads that may block, several at once.
pub trait Preflight: Send + Sync {
    /// Looks at everything that can be wrong with a job. Gives it completed: with the checkpoint that it goes on from,
    /// that one's job id, and what its workers must at least have.
    ///
    /// # Errors
    /// Everything that is wrong, with its remedy.
    fn inspect(&self, job: JobSpec, from: StartFrom) -> Result<JobSpec, Unfit>;

    /// A job that an earlier coordinator of this queue had started, with its newest complete checkpoint.
    ///
    /// # Errors
    /// What is in the way, with its remedy.
    fn go_on(&self, job: JobSpec) -> Result<JobSpec, String>;
}

/// Leaves what jobs leave.
pub trait Attend: Send + Sync {
    /// Makes a job's output folder ready: its turn has come. Runs on a thread that may block.
    ///
    /// # Errors
    /// What is in the way, with its remedy.
    fn open(&self, job: &JobSpec) -> Result<Box<dyn Attendant>, String>;
}

/// Follows one job, on a thread of its own.
pub trait Attendant: Send {
    /// Takes in what people are told.
    ///
    /// # Errors
    /// What could not be written; the job goes on.
    fn notice(&mut self, notice: &Notice) -> Result<(), String>;

    /// Leaves the results. Until this returns, the job is not over for those who watch it.
    ///
    /// # Errors
    /// What is missing, and the remedy: a job that succeeded has failed then.
    fn ended(self: Box<Self>, outcome: &JobOutcome) -> Result<(), String>;
}
