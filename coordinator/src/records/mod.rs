//! What a queue remembers: its jobs, what happened to them, and the figures of their steps.
//!
//! ```text
//! STATE/
//!   term              how often a coordinator was started here
//!   lock              held by the coordinator that runs here
//!   jobs/<id>.json    one file a job: what it was submitted with, and how it ended
//!   records.db        jobs, events, figures, for queries; rebuilt from the files and the jobs' ledgers when it is lost
//! ```
//!
//! A submission is durable before it is answered. Everything else goes through an [inbox](inbox) that never blocks to
//! one writer thread: training does not wait for records, and goes on where the disk takes none.

mod entry;
mod error;
mod files;
mod history;
mod inbox;
mod jobs;
mod open;
mod rebuild;
mod schema;
#[cfg(test)]
mod tests;
mod trim;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use weft_common::id::JobId;
use weft_proto::v1;

pub use error::RecordsError;
pub(crate) use files::{JobFile, JobFiles};
pub(crate) use history::Page;
pub(crate) use jobs::{Found, Over};

use crate::clock::unix_ms;
use crate::happening::Happening;
use crate::view::JobView;
use entry::Entry;
use inbox::Inbox;

/// How long who submits waits for the disk.
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// A submission that is recorded, and what it took the place of: a job that is over may be handed in again.
#[derive(Debug)]
pub(crate) struct Receipt {
    job: JobId,
    before: Option<(JobFile, JobView)>,
}

/// The records of one coordinator. Cheap to clone; what reads or waits blocks its thread.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    path: Arc<PathBuf>,
    files: JobFiles,
    inbox: Arc<Inbox>,
    reader: Arc<Mutex<Connection>>,
    advanced: watch::Receiver<u64>,
}

impl Records {
    /// The next submission's place in the queue, for good.
    pub(crate) fn next_number(&self) -> u64 {
        self.inbox.next_number()
    }

    /// Remembers a job that is handed in. When this returns, it survives a loss of power.
    ///
    /// # Errors
    /// The disk does not take it; nothing of it is left.
    pub(crate) fn submitted(&self, job: &JobFile, view: &JobView) -> Result<Receipt, RecordsError> {
        let before = match self.job(&job.id)? {
            Some(view) => self.files.read(&job.id).ok().map(|file| (file, view)),
            None => None,
        };
        let receipt = Receipt {
            job: job.id.clone(),
            before,
        };
        let (row, number) = (Box::new(view.clone()), job.number);
        let written = self.files.write(job).and_then(|()| {
            let written = self.inbox.submit(row, number, DURABLE_WITHIN);
            written.unwrap_or(Err(RecordsError::Late))
        });
        match written {
            Ok(()) => Ok(receipt),
            Err(error) => {
                self.withdrawn(receipt);
                Err(error)
            }
        }
    }

    /// Forgets a submission that came to nothing.
    pub(crate) fn withdrawn(&self, receipt: Receipt) {
        match receipt.before {
            Some((file, view)) => {
                // Where the disk refuses, the job is handed in again after a restart, as was asked for.
                let _ = self.files.write(&file);
                self.inbox.stands(view);
            }
            None => {
                // A file that stays is that of a job that nobody was told of; it ends like any other.
                let _ = self.files.remove(&receipt.job);
                self.inbox.push(Entry::Withdrawn(receipt.job));
            }
        }
    }

    /// How a job stands now.
    pub(crate) fn stands(&self, view: &JobView) {
        self.inbox.stands(view.clone());
    }

    /// Something that happened, to a job or to all.
    pub(crate) fn happened(&self, job: Option<&JobId>, happening: Happening) {
        self.inbox.push(Entry::Event {
            job: job.cloned(),
            unix_ms: unix_ms(),
            happening,
        });
    }

    /// A committed step.
    pub(crate) fn stepped(&self, job: &JobId, figures: v1::StepFigures) {
        self.inbox.push(Entry::Step {
            job: job.clone(),
            figures: Box::new(figures),
        });
    }

    /// Steps after so many no longer count.
    pub(crate) fn rolled_back(&self, job: &JobId, committed: u64) {
        self.inbox.push(Entry::RolledBack {
            job: job.clone(),
            committed,
        });
    }

    /// Rises with everything that is written.
    pub(crate) fn advanced(&self) -> watch::Receiver<u64> {
        self.advanced.clone()
    }

    /// The newest jobs that are over, at most `last` (0 for all), oldest first, and how many more there are.
    pub(crate) fn over(&self, last: u32) -> Result<Over, RecordsError> {
        jobs::over(&self.reading(), last).map_err(|error| self.unreadable(&error))
    }

    /// A job by its id.
    pub(crate) fn job(&self, id: &JobId) -> Result<Option<JobView>, RecordsError> {
        jobs::job(&self.reading(), id).map_err(|error| self.unreadable(&error))
    }

    /// What `text` may mean.
    pub(crate) fn find(&self, text: &str) -> Result<Found, RecordsError> {
        jobs::find(&self.reading(), text).map_err(|error| self.unreadable(&error))
    }

    /// What happened to a job after the event `after`.
    pub(crate) fn events(
        &self,
        job: &JobId,
        after: u64,
    ) -> Result<Page<v1::JobEvent>, RecordsError> {
        history::events(&mut self.reading(), job, after).map_err(|error| self.unreadable(&error))
    }

    /// Steps of a job that were written after the figures numbered `after`, beyond so many steps.
    pub(crate) fn steps(
        &self,
        job: &JobId,
        after: u64,
        beyond: u64,
    ) -> Result<Page<v1::StepFigures>, RecordsError> {
        history::steps(&mut self.reading(), job, after, beyond)
            .map_err(|error| self.unreadable(&error))
    }

    /// The event after which the newest `last` of a job come.
    pub(crate) fn events_before(&self, job: &JobId, last: u32) -> Result<u64, RecordsError> {
        history::events_before(&self.reading(), job, last).map_err(|error| self.unreadable(&error))
    }

    /// As [`events_before`](Self::events_before), of the steps' figures.
    pub(crate) fn steps_before(&self, job: &JobId, last: u32) -> Result<u64, RecordsError> {
        history::steps_before(&self.reading(), job, last).map_err(|error| self.unreadable(&error))
    }

    /// Jobs that are not over, in the order in which they were handed in.
    pub(crate) fn unfinished(&self) -> Result<Vec<JobView>, RecordsError> {
        jobs::unfinished(&self.reading()).map_err(|error| self.unreadable(&error))
    }

    /// What a job was handed in with.
    pub(crate) fn file(&self, job: &JobId) -> Result<JobFile, RecordsError> {
        self.files.read(job)
    }

    /// Each read is one short query: what waits here does not wait long.
    fn reading(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self, error: &rusqlite::Error) -> RecordsError {
        RecordsError::of("read", &self.path, error)
    }
}

/// The records, open. Dropping it ends the writer, once it has written what waits.
#[derive(Debug)]
pub(crate) struct OpenRecords {
    pub(crate) records: Records,
    writer: Option<std::thread::JoinHandle<()>>,
    _lock: std::fs::File,
}

impl OpenRecords {
    /// Opens what is in a state folder, or begins it, and repairs what can be repaired.
    ///
    /// # Errors
    /// Another coordinator uses the folder, a newer version of weft wrote it, or it cannot be written.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, RecordsError> {
        open::open(state_dir)
    }
}

impl Drop for OpenRecords {
    fn drop(&mut self) {
        self.records.inbox.close();
        if let Some(writer) = self.writer.take() {
            // A panic in it is in the log already.
            let _ = writer.join();
        }
    }
}
