//! The thread that makes commit records durable, so that the driver never waits for a disk.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;
use weft_common::failpoint;
use weft_common::id::{JobId, Step};
use weft_common::ledger::{CommitRecord, FenceSeen, LedgerError, LedgerShipper, LedgerWriter};

use crate::blocking::Blocking;
use crate::driver::Message;
use crate::engine::Event;

/// A coordinator that has nothing to commit looks this often whether another one has taken its ledger over: its workers
/// may be all that the other one waits for.
const FENCE_EVERY: Duration = Duration::from_secs(2);

/// Orders under way: a step is appended before the next one begins, so a record and a rewind at most.
const ORDERS: usize = 2;

/// Appends to one job's ledger. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct LedgerThread {
    orders: Orders,
}

/// The way to who writes.
#[derive(Debug)]
enum Orders {
    Thread(SyncSender<Order>),
    Task(mpsc::Sender<Order>),
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
    /// Takes over `writing`; each record's fate goes to its `inbox`. `until_done` is dropped when everything is written,
    /// and sent where there is a storage.
    pub(crate) fn start(
        mut writing: Writing,
        blocking: Blocking,
        until_done: mpsc::Sender<()>,
    ) -> Self {
        let orders = match blocking {
            Blocking::OnThreads => {
                let (orders, received) = sync_channel(ORDERS);
                thread::spawn(move || {
                    writing.write(&received);
                    writing.finish();
                    drop(until_done);
                });
                Orders::Thread(orders)
            }
            Blocking::InPlace => {
                let (orders, received) = mpsc::channel(ORDERS);
                tokio::spawn(async move {
                    writing.write_in_place(received).await;
                    writing.finish();
                    drop(until_done);
                });
                Orders::Task(orders)
            }
        };
        Self { orders }
    }

    /// Hands over a record; false where the thread is gone.
    pub(crate) fn append(&self, record: CommitRecord) -> bool {
        self.order(Order::Append(Box::new(record)))
    }

    /// Lets the next record be of an earlier step; false where the thread is gone.
    pub(crate) fn rewind(&self, first_step: Step) -> bool {
        self.order(Order::Rewind(first_step))
    }

    fn order(&self, order: Order) -> bool {
        match &self.orders {
            Orders::Thread(orders) => orders.try_send(order).is_ok(),
            Orders::Task(orders) => orders.try_send(order).is_ok(),
        }
    }
}

/// What one job's ledger is written with.
pub(crate) struct Writing {
    pub(crate) job: JobId,
    pub(crate) writer: LedgerWriter,
    /// Sends it to the storage that the recipe names.
    pub(crate) shipper: Option<LedgerShipper>,
    pub(crate) inbox: mpsc::Sender<Message>,
}

impl Writing {
    fn finish(self) {
        if let Some(Err(error)) = self.shipper.map(LedgerShipper::finish) {
            let job = &self.job;
            warn!(%job, %error, "the end of the ledger is not in the storage");
        }
    }

    /// Ends with the first failure: the writer must not be used after one.
    fn write(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = match orders.recv_timeout(FENCE_EVERY) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(event) = self.obey(order) else {
                continue;
            };
            let ends = ends(&event);
            if self.inbox.blocking_send(Message::Event(event)).is_err() || ends {
                return;
            }
        }
    }

    /// The same, for who has no thread.
    async fn write_in_place(&mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let order = match timeout(FENCE_EVERY, orders.recv()).await {
                Ok(Some(order)) => Some(order),
                Ok(None) => return,
                Err(_) => None,
            };
            let Some(event) = self.obey(order) else {
                continue;
            };
            let ends = ends(&event);
            if self.inbox.send(Message::Event(event)).await.is_err() || ends {
                return;
            }
        }
    }

    /// Does an order, or looks at the fence where there is none; what is to be told.
    fn obey(&mut self, order: Option<Order>) -> Option<Event> {
        match order {
            Some(Order::Append(record)) => match append(&mut self.writer, &record) {
                Ok(()) => Some(self.durable(record.step)),
                Err(error) => Some(self.failed(record.step, &error)),
            },
            Some(Order::Rewind(step)) => {
                let rewound = self.writer.rewind(step);
                rewound.err().map(|error| self.failed(step, &error))
            }
            None => self.look(),
        }
    }

    /// A folder that cannot be read just now is no reason to end: the next record will show.
    fn look(&self) -> Option<Event> {
        match self.writer.heed_fence() {
            Err(error @ LedgerError::Fenced { .. }) => {
                Some(self.failed(self.writer.next_step(), &error))
            }
            Ok(()) | Err(_) => None,
        }
    }

    /// A record is on the disk, which counts unless the storage knows of another coordinator.
    fn durable(&self, step: Step) -> Event {
        let job = self.job.clone();
        match self.shipper.as_ref().map(LedgerShipper::fence) {
            Some(FenceSeen::Newer(by)) => Event::LedgerFenced { job, by },
            Some(FenceSeen::None | FenceSeen::Unknown) | None => Event::LedgerDurable { job, step },
        }
    }

    fn failed(&self, step: Step, error: &LedgerError) -> Event {
        let job = self.job.clone();
        match error {
            LedgerError::Fenced { found, .. } => Event::LedgerFenced { job, by: *found },
            LedgerError::Storage(_)
            | LedgerError::Line { .. }
            | LedgerError::Job { .. }
            | LedgerError::Missing { .. }
            | LedgerError::Order { .. } => Event::LedgerFailed {
                job,
                step,
                message: error.to_string(),
            },
        }
    }
}

fn ends(event: &Event) -> bool {
    matches!(
        event,
        Event::LedgerFailed { .. } | Event::LedgerFenced { .. }
    )
}

fn append(writer: &mut LedgerWriter, record: &CommitRecord) -> Result<(), LedgerError> {
    failpoint::hit("recording");
    let written = writer.append(record);
    failpoint::hit("recorded");
    written
}
