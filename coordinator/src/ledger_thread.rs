//! The thread that makes commit records durable, so that the driver never waits for a disk.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use weft_common::failpoint;
use weft_common::id::{JobId, Step};
use weft_common::ledger::{CommitRecord, LedgerError, LedgerWriter};

use crate::driver::Message;
use crate::engine::Event;

/// A coordinator that has nothing to commit looks this often whether another one has taken its ledger over: its workers
/// may be all that the other one waits for.
const FENCE_EVERY: Duration = Duration::from_secs(2);

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
        let writing = Writing { job, writer, inbox };
        thread::spawn(move || writing.run(&received));
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

struct Writing {
    job: JobId,
    writer: LedgerWriter,
    inbox: mpsc::Sender<Message>,
}

impl Writing {
    /// Ends with the first failure: the writer must not be used after one.
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let went_on = match orders.recv_timeout(FENCE_EVERY) {
                Ok(Order::Append(record)) => self.append(&record),
                Ok(Order::Rewind(step)) => {
                    let rewound = self.writer.rewind(step);
                    self.check(step, rewound)
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !went_on {
                return;
            }
        }
    }

    fn append(&mut self, record: &CommitRecord) -> bool {
        let (job, step) = (self.job.clone(), record.step);
        let appended = append(&mut self.writer, record);
        self.check(step, appended) && self.tell(Event::LedgerDurable { job, step })
    }

    /// Tells where another coordinator has taken over. A folder that cannot be read just now is no reason to end: the
    /// next record will show.
    fn look(&self) -> bool {
        match self.writer.heed_fence() {
            Err(error @ LedgerError::Fenced { .. }) => {
                self.check(self.writer.next_step(), Err(error))
            }
            Ok(()) | Err(_) => true,
        }
    }

    /// Tells of a failure; true where there is none.
    fn check(&self, step: Step, done: Result<(), LedgerError>) -> bool {
        let job = self.job.clone();
        let event = match done {
            Ok(()) => return true,
            Err(LedgerError::Fenced { found, .. }) => Event::LedgerFenced { job, by: found },
            Err(
                error @ (LedgerError::Storage(_)
                | LedgerError::Line { .. }
                | LedgerError::Job { .. }
                | LedgerError::Missing { .. }
                | LedgerError::Order { .. }),
            ) => Event::LedgerFailed {
                job,
                step,
                message: error.to_string(),
            },
        };
        self.tell(event);
        false
    }

    /// False where the driver has ended.
    fn tell(&self, event: Event) -> bool {
        self.inbox.blocking_send(Message::Event(event)).is_ok()
    }
}

fn append(writer: &mut LedgerWriter, record: &CommitRecord) -> Result<(), LedgerError> {
    failpoint::hit("recording");
    let written = writer.append(record);
    failpoint::hit("recorded");
    written
}
