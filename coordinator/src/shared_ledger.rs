//! A job's ledger in the shared storage that its recipe names: whose term it is, what is there, what is sent.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use weft_common::id::{JobId, Term};
use weft_common::ledger::{FetchError, LedgerShipper, Shipment, fetch_ledger, job_of};
use weft_common::recipe::Recipe;
use weft_common::store::{FenceError, Store, StoreLimits, claim};

use crate::driver::Message;
use crate::engine::Event;

/// What cannot be sent within this time is told, and tried again with the next records.
const RETRY_WITHIN: Duration = Duration::from_secs(10);

/// The storage of a job that this coordinator has claimed.
#[derive(Debug)]
pub(crate) struct SharedLedger {
    store: Store,
    job: JobId,
    term: Term,
}

impl SharedLedger {
    /// Claims the job, so that older coordinators find out; `None` where its recipe names no storage.
    ///
    /// # Errors
    /// A coordinator of this term or a newer one has claimed it, or the storage does not answer.
    pub(crate) fn claim(
        recipe: &Recipe,
        job: &JobId,
        term: Term,
    ) -> Result<Option<Self>, FenceError> {
        let Some(url) = recipe.training.store_url() else {
            return Ok(None);
        };
        let limits = StoreLimits {
            retry_within: RETRY_WITHIN,
            ..StoreLimits::default()
        };
        let store = Store::open_within(&url, limits)?;
        claim(&store, job, term)?;
        Ok(Some(Self {
            store,
            job: job.clone(),
            term,
        }))
    }

    /// Brings what the storage has to `folder`, where that has no ledger: the disk of the coordinator before may be gone.
    ///
    /// # Errors
    /// The storage does not give it, or what it gives is no ledger.
    pub(crate) fn fetch_missing(&self, folder: &Path) -> Result<(), FetchError> {
        if job_of(folder)?.is_none() {
            fetch_ledger(&self.store, &self.job, folder)?;
        }
        Ok(())
    }

    /// Sends from now on what the ledger in `folder` grows by. That a newer coordinator has claimed the job is told to
    /// `inbox`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn ship(
        self,
        folder: PathBuf,
        inbox: mpsc::Sender<Message>,
    ) -> io::Result<LedgerShipper> {
        let Self { store, job, term } = self;
        let fenced = job.clone();
        let shipment = Shipment {
            store,
            job,
            term,
            folder,
        };
        LedgerShipper::start(shipment, move |by| {
            let event = Event::LedgerFenced { job: fenced, by };
            // A driver that has stopped commits nothing anyway.
            let _ = inbox.blocking_send(Message::Event(event));
        })
    }
}
