//! The thread that makes commit records durable, so that the driver never waits for a disk.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::mpsc;
use weft_common::id::JobId;
use weft_common::ledger::{CommitRecord, LedgerWriter};

use crate::driver::Message;
use crate::engine::Event;

/// Appends to one job's ledger. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct LedgerThread {
    records: SyncSender<CommitRecord>,
}

impl LedgerThread {
    /// Takes over `writer`; each record's fate goes to `inbox`.
    pub(crate) fn start(job: JobId, writer: LedgerWriter, inbox: mpsc::Sender<Message>) -> Self {
        // A step is appended before the next one begins, so one record is under way at most.
        let (records, received) = sync_channel(1);
        thread::spawn(move || append_all(&job, writer, &received, &inbox));
        Self { records }
    }

    /// Hands over a record; false where the thread is gone.
    pub(crate) fn append(&self, record: CommitRecord) -> bool {
        self.records.try_send(record).is_ok()
    }
}

fn append_all(
    job: &JobId,
    mut writer: LedgerWriter,
    records: &Receiver<CommitRecord>,
    inbox: &mpsc::Sender<Message>,
) {
    while let Ok(record) = records.recv() {
        let step = record.step;
        let appended = writer.append(&record);
        let failed = appended.is_err();
        let event = match appended {
            Ok(()) => Event::LedgerDurable {
                job: job.clone(),
                step,
            },
            Err(error) => Event::LedgerFailed {
                job: job.clone(),
                step,
                message: error.to_string(),
            },
        };
        let heard = inbox.blocking_send(Message::Event(event)).is_ok();
        if failed || !heard {
            return;
        }
    }
}
