//! The thread that makes commit records durable, so that the driver never waits for a disk.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::mpsc;
use weft_common::failpoint;
use weft_common::id::{JobId, Step};
use weft_common::ledger::{CommitRecord, LedgerError, LedgerWriter};

use crate::driver::Message;
use crate::engine::Event;

/// Appends to one job's ledger. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct LedgerThread {
    orders: SyncSender<Order>,
}

/// What is to be written.
#[derive(Debug)]
enum Order {
    /// A record.
    Append(Box<CommitRecord>),
    /// A new segment that begins with this step.
    Rewind(Step),
}

impl LedgerThread {
    /// Takes over `writer`; each record's fate goes to `inbox`.
    pub(crate) fn start(job: JobId, writer: LedgerWriter, inbox: mpsc::Sender<Message>) -> Self {
        // A step is appended before the next one begins: a record and a rewind are under way at most.
        let (orders, received) = sync_channel(2);
        thread::spawn(move || write_all(&job, writer, &received, &inbox));
        Self { orders }
    }

    /// Hands over a record; false where the thread is gone.
    pub(crate) fn append(&self, record: CommitRecord) -> bool {
        let order = Order::Append(Box::new(record));
        self.orders.try_send(order).is_ok()
    }

    /// Lets the next record be of an earlier step; false where the thread is gone.
    pub(crate) fn rewind(&self, first_step: Step) -> bool {
        self.orders.try_send(Order::Rewind(first_step)).is_ok()
    }
}

fn write_all(
    job: &JobId,
    mut writer: LedgerWriter,
    orders: &Receiver<Order>,
    inbox: &mpsc::Sender<Message>,
) {
    while let Ok(order) = orders.recv() {
        let (step, written) = match &order {
            Order::Append(record) => (record.step, append(&mut writer, record)),
            Order::Rewind(step) => (*step, writer.rewind(*step)),
        };
        let event = match (&order, written) {
            (Order::Rewind(_), Ok(())) => continue,
            (Order::Append(_), Ok(())) => Event::LedgerDurable {
                job: job.clone(),
                step,
            },
            (Order::Append(_) | Order::Rewind(_), Err(error)) => Event::LedgerFailed {
                job: job.clone(),
                step,
                message: error.to_string(),
            },
        };
        let failed = matches!(event, Event::LedgerFailed { .. });
        let heard = inbox.blocking_send(Message::Event(event)).is_ok();
        if failed || !heard {
            return;
        }
    }
}

fn append(writer: &mut LedgerWriter, record: &CommitRecord) -> Result<(), LedgerError> {
    failpoint::hit("recording");
    let written = writer.append(record);
    failpoint::hit("recorded");
    written
}
