//! The one thread that writes.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use tokio::sync::watch;
use tracing::{info, warn};
use weft_common::id::JobId;

use super::entry::{Entry, Submitted};
use super::error::RecordsError;
use super::files::JobFiles;
use super::inbox::{Batch, Inbox, Next};
use super::trim::{KEPT, LOOK_EVERY, trim};
use super::{history, jobs};

/// How long a disk that takes nothing is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes what an inbox holds, batch after batch.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) database: Connection,
    pub(super) path: PathBuf,
    pub(super) files: JobFiles,
    pub(super) inbox: Arc<Inbox>,
    pub(super) advanced: watch::Sender<u64>,
    /// Entries until the records are next looked at for what is too much.
    pub(super) until_trim: usize,
}

impl Writer {
    /// Runs until the inbox is closed and empty.
    pub(super) fn start(mut self) -> JoinHandle<()> {
        thread::spawn(move || self.write_all())
    }

    fn write_all(&mut self) {
        let mut failing = false;
        while let Next::Write(mut batch) = self.inbox.next() {
            match self.write(&mut batch) {
                Ok(()) => {
                    if failing {
                        let lost = self.inbox.take_lost();
                        info!(lost, "records are written again");
                        failing = false;
                    }
                }
                Err(error) => {
                    if !failing {
                        warn!(%error, "nothing can be recorded; training goes on");
                        failing = true;
                    }
                    if !self.inbox.put_back(batch, PAUSE) {
                        warn!("the coordinator ends with records that were not written");
                        return;
                    }
                }
            }
        }
    }

    /// Who waits for a submission is answered whether it worked or not; all else stays in `batch` where it did not.
    fn write(&mut self, batch: &mut Batch) -> Result<(), RecordsError> {
        let submitted = std::mem::take(&mut batch.submitted);
        if let Err(error) = self.commit(&submitted, batch) {
            let at = |error| RecordsError::of("write", &self.path, error);
            for one in submitted {
                // Who waits no longer withdraws it.
                let _ = one.reply.send(Err(at(&error)));
            }
            return Err(at(&error));
        }
        for one in submitted {
            let _ = one.reply.send(Ok(()));
        }
        self.until_trim = self.until_trim.saturating_sub(batch.entries.len());
        batch.entries.clear();
        self.advanced.send_modify(|written| *written += 1);
        self.update_files(batch)?;
        self.trim();
        Ok(())
    }

    /// Now and then; where it fails, the next time is soon enough.
    fn trim(&mut self) {
        if self.until_trim > 0 {
            return;
        }
        self.until_trim = LOOK_EVERY;
        match self.forget() {
            Ok(forgotten) => {
                for job in forgotten {
                    // A file that stays brings its job back with the next start, and goes with the next look.
                    let _ = self.files.remove(&job);
                }
            }
            Err(error) => warn!(%error, "the records grow: nothing old can be taken out"),
        }
    }

    fn forget(&mut self) -> rusqlite::Result<Vec<JobId>> {
        let change = self.database.transaction()?;
        let forgotten = trim(&change, &KEPT)?;
        change.commit()?;
        Ok(forgotten)
    }

    fn commit(&mut self, submitted: &[Submitted], batch: &Batch) -> rusqlite::Result<()> {
        let synchronous = if submitted.is_empty() {
            "NORMAL"
        } else {
            "FULL"
        };
        self.database
            .pragma_update(None, "synchronous", synchronous)?;
        let change = self.database.transaction()?;
        for one in submitted {
            jobs::submit(&change, &one.view, one.number)?;
        }
        for entry in &batch.entries {
            write_entry(&change, entry)?;
        }
        for job in batch.jobs.values() {
            jobs::update(&change, job)?;
        }
        change.commit()
    }

    /// A job's file follows its row: a crash between is found when the records are opened.
    fn update_files(&self, batch: &mut Batch) -> Result<(), RecordsError> {
        let mut failed = None;
        batch.jobs.retain(|_, job| match self.files.update(job) {
            Ok(()) => false,
            Err(error @ RecordsError::Storage(_)) => {
                failed = Some(error);
                true
            }
            Err(error) => {
                warn!(%error, "a job's file stays as it is");
                false
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

fn write_entry(change: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    match entry {
        Entry::Event {
            job,
            unix_ms,
            happening,
        } => history::happened(change, job.as_ref(), *unix_ms, happening),
        Entry::Step { job, figures } => history::stepped(change, job, figures),
        Entry::RolledBack { job, committed } => history::rolled_back(change, job, *committed),
        Entry::Withdrawn(job) => jobs::remove(change, job),
    }
}
