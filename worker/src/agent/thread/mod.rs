//! The training thread: owns the engine and the collective, and does one order after another.

mod failure;
mod load;
mod loaded;
mod peers;
mod save;
mod suspect;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use weft_common::id::{JobId, WorkerId};
use weft_common::wire::{Membership, WorkerFailed};

use self::failure::{Failure, internal, panicked};
use self::loaded::Loaded;
use super::order::{Answer, Order};
use super::tokens::Tokens;
use super::watchdog::{Task, Work};
use super::{EngineError, EngineFactory, Snapshot};
use crate::collective::{CollectiveError, RingListener};

/// Orders that may wait: the protocol has a commit, a checkpoint and two leases under way at most.
const ORDERS: usize = 64;

/// Where a worker is reached by the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// This process.
    pub(super) worker: WorkerId,
    /// Where the ring listens.
    pub(super) listen_ip: IpAddr,
    /// Where the state is served.
    pub(super) peer_port: u16,
}

/// The training thread as the driver holds it. Dropping it ends the thread after what is queued.
#[derive(Debug)]
pub(super) struct TrainingThread {
    messages: Arc<SyncSender<Message>>,
    handle: JoinHandle<()>,
    work: Work,
    device_bytes: Arc<AtomicU64>,
}

/// The training thread as those hold it who serve its state; does not keep it alive.
#[derive(Debug, Clone)]
pub(super) struct StateHandle(Weak<SyncSender<Message>>);

/// A snapshot, or why there is none.
type Shared = Result<Box<dyn Snapshot>, EngineError>;

enum Message {
    Order(Order, Tokens),
    /// Copy the state of this job as it is when it is this message's turn.
    Share(JobId, oneshot::Sender<Shared>),
}

impl TrainingThread {
    /// Starts the thread; its answers go to `answers`.
    pub(super) fn start(
        place: Place,
        factory: EngineFactory,
        answers: mpsc::Sender<Answer>,
    ) -> std::io::Result<Self> {
        let (messages, received) = sync_channel(ORDERS);
        let work = Work::default();
        let device_bytes = Arc::new(AtomicU64::new(0));
        let training = Training {
            place,
            factory,
            answers,
            listener: None,
            job: None,
            work: work.clone(),
            device_bytes: device_bytes.clone(),
        };
        let handle = std::thread::Builder::new()
            .name("weft-train".to_owned())
            .spawn(move || training.run(&received))?;
        Ok(Self {
            messages: Arc::new(messages),
            handle,
            work,
            device_bytes,
        })
    }

    /// Queues an order; false where the thread does not take it.
    pub(super) fn order(&self, order: Order, tokens: &Tokens) -> bool {
        let message = Message::Order(order, tokens.clone());
        self.messages.try_send(message).is_ok()
    }

    /// For the one who sees to it that the thread gets on.
    pub(super) fn work(&self) -> Work {
        self.work.clone()
    }

    /// Memory of the GPU in use after the last order; 0 without one.
    pub(super) fn device_bytes(&self) -> u64 {
        self.device_bytes.load(Ordering::Relaxed)
    }

    /// For those who serve the state.
    pub(super) fn state(&self) -> StateHandle {
        StateHandle(Arc::downgrade(&self.messages))
    }

    /// No more orders: the thread ends after the one in hand.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.handle
    }
}

impl StateHandle {
    /// The state of `job`, copied between two orders.
    pub(super) async fn share(&self, job: JobId) -> Shared {
        let (reply, shared) = oneshot::channel();
        let gone = || internal("this worker is about to end".to_owned());
        let messages = self.0.upgrade().ok_or_else(gone)?;
        let sent = messages.try_send(Message::Share(job, reply));
        sent.map_err(|_| internal("this worker has too many orders queued".to_owned()))?;
        drop(messages);
        shared.await.unwrap_or_else(|_| Err(gone()))
    }
}

struct Training {
    place: Place,
    factory: EngineFactory,
    answers: mpsc::Sender<Answer>,
    /// Outlives epochs and jobs.
    listener: Option<Arc<RingListener>>,
    job: Option<Loaded>,
    work: Work,
    device_bytes: Arc<AtomicU64>,
}

/// What an order comes to.
type Done = Result<Option<Answer>, Failure>;

impl Training {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            let (order, tokens) = match message {
                Message::Order(order, tokens) => (order, tokens),
                Message::Share(job, reply) => {
                    self.work.begin(Task::Brief);
                    // Who no longer waits needs no answer.
                    let _ = reply.send(self.share(&job));
                    self.work.end();
                    continue;
                }
            };
            self.work.begin(Task::of(&order));
            let answer = self.obey(order, &tokens);
            self.work.end();
            let device_bytes = self.job.as_ref().and_then(|job| job.engine.device_bytes());
            self.device_bytes
                .store(device_bytes.unwrap_or(0), Ordering::Relaxed);
            if let Some(answer) = answer
                && self.answers.blocking_send(answer).is_err()
            {
                return;
            }
        }
    }

    /// Does an order. What fails because it was cancelled is not told.
    fn obey(&mut self, order: Order, tokens: &Tokens) -> Option<Answer> {
        let settle = matches!(order, Order::Settle(_));
        if ends(&order, tokens) {
            return None;
        }
        let membership = self.membership_of(&order);
        let token = tokens.of(&order);
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(order, tokens)));
        let done = done.unwrap_or_else(|panic| {
            // What is half done cannot be relied on.
            self.job = None;
            Err(panicked(&*panic).into())
        });
        match (done, membership) {
            (Err(_), _) if settle => Some(Answer::Settled(None)),
            (Ok(answer), _) => answer.filter(|_| settle || !tokens.job.is_cancelled()),
            (Err(_), _) if token.is_cancelled() || tokens.job.is_cancelled() => None,
            (Err(_), None) => None,
            (Err(Failure { error, suspect }), Some(membership)) => {
                Some(Answer::Failed(WorkerFailed {
                    membership,
                    kind: error.kind,
                    message: error.message,
                    suspect,
                }))
            }
        }
    }

    fn perform(&mut self, order: Order, tokens: &Tokens) -> Done {
        match order {
            Order::Load(loading) => self.load(&loading),
            Order::Describe(membership) => self.describe(membership),
            Order::Settle(membership) => Ok(Some(self.settle(membership))),
            Order::Restore(restore) => self.restore(restore),
            Order::Adopt { membership, copy } => self.adopt(membership, &copy),
            Order::Join(epoch) => {
                let worker = self.place.worker;
                self.loaded()?.join(epoch, worker)
            }
            Order::Compute {
                round,
                step_supervised,
                slot,
            } => self
                .loaded()?
                .compute(round, step_supervised, &slot, &tokens.staged),
            Order::Merge { round, lease } => self.loaded()?.merge(&round, lease),
            Order::Discard(lease) => {
                self.loaded()?.discard(lease);
                Ok(None)
            }
            Order::Reduce(round) => {
                let listener = self.listener()?;
                self.loaded()?.reduce(round, &listener, &tokens.reduce)
            }
            Order::Apply { round, update } => {
                let loaded = self.loaded()?;
                loaded.expect_sum(&round, update)?;
                let applied = loaded.apply(round, update);
                if applied.is_err() {
                    // The state is undefined: nothing is held that could be told.
                    self.job = None;
                }
                applied
            }
            Order::Snapshot(take) => {
                let answers = self.answers.clone();
                self.loaded()?.snapshot(take, answers)
            }
            Order::Unload => {
                self.job = None;
                Ok(None)
            }
        }
    }

    fn share(&mut self, job: &JobId) -> Shared {
        let loaded = self.loaded()?;
        if loaded.job() != job {
            return Err(internal(format!(
                "{job} was asked for, but this worker holds {}",
                loaded.job()
            )));
        }
        let taken = catch_unwind(AssertUnwindSafe(|| loaded.share()));
        taken.unwrap_or_else(|panic| Err(panicked(&*panic)))
    }

    fn membership_of(&self, order: &Order) -> Option<Membership> {
        match order {
            Order::Load(loading) => Some(loading.prepare.membership.clone()),
            Order::Describe(membership)
            | Order::Settle(membership)
            | Order::Adopt { membership, .. } => Some(membership.clone()),
            Order::Restore(restore) => Some(restore.membership.clone()),
            Order::Join(epoch) => Some(epoch.membership.clone()),
            Order::Compute { round, .. }
            | Order::Merge { round, .. }
            | Order::Reduce(round)
            | Order::Apply { round, .. } => Some(round.membership.clone()),
            Order::Snapshot(take) => Some(take.membership.clone()),
            Order::Discard(_) | Order::Unload => self.job.as_ref().map(|job| job.newest().clone()),
        }
    }

    fn loaded(&mut self) -> Result<&mut Loaded, EngineError> {
        self.job
            .as_mut()
            .ok_or_else(|| internal("no job is loaded".to_owned()))
    }

    fn listener(&mut self) -> Result<Arc<RingListener>, CollectiveError> {
        if let Some(listener) = &self.listener {
            return Ok(listener.clone());
        }
        let listener = Arc::new(RingListener::bind(self.place.listen_ip)?);
        Ok(self.listener.insert(listener).clone())
    }
}

/// Whether an order was cancelled while it was queued.
fn ends(order: &Order, tokens: &Tokens) -> bool {
    match order {
        Order::Unload | Order::Settle(_) => false,
        Order::Load(_)
        | Order::Describe(_)
        | Order::Restore(_)
        | Order::Adopt { .. }
        | Order::Join(_)
        | Order::Compute { .. }
        | Order::Merge { .. }
        | Order::Discard(_)
        | Order::Reduce(_)
        | Order::Apply { .. }
        | Order::Snapshot(_) => tokens.job.is_cancelled() || tokens.of(order).is_cancelled(),
    }
}
