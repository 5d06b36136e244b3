//! A training thread as a task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use weft_common::id::WorkerId;
use weft_common::wire::{self, CheckpointWritten, Event, Round, TakeCheckpoint};
use weft_worker::agent::machine::Scope;
use weft_worker::agent::{Answer, ErrorKind, Order};

use super::super::trainer::{Given, Trainer};
use super::hub::Hub;

/// How long a reduction stands still before it fails.
const HOP_WITHIN: Duration = Duration::from_secs(10);

/// A training thread's books, which its peers look into.
pub(super) type Books = Arc<Mutex<Trainer>>;

/// A training thread.
pub(super) struct Training {
    pub(super) worker: WorkerId,
    books: Books,
    wake: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Training {
    pub(super) fn start(hub: &Hub, host: u32, answers: mpsc::Sender<Answer>) -> Self {
        let (books, wake) = (Books::default(), Arc::new(Notify::new()));
        let worker = hub.started(host, books.clone());
        let task = Task {
            hub: hub.clone(),
            worker,
            books: books.clone(),
            wake: wake.clone(),
            answers,
        };
        Self {
            worker,
            books,
            wake,
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }
}

impl weft_worker::agent::Trainer for Training {
    fn order(&mut self, order: Order) -> bool {
        look(&self.books).order(order);
        self.wake.notify_one();
        true
    }

    fn cancel(&mut self, scope: Scope) {
        look(&self.books).cancel(scope);
        self.wake.notify_one();
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Option<String>> {
        Box::pin(std::future::ready(None))
    }
}

/// Nobody panics while holding the lock.
pub(super) fn look(books: &Books) -> MutexGuard<'_, Trainer> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    hub: Hub,
    worker: WorkerId,
    books: Books,
    wake: Arc<Notify>,
    answers: mpsc::Sender<Answer>,
}

impl Task {
    async fn run(self) {
        loop {
            let begun = {
                let mut books = look(&self.books);
                let order = books.begin();
                order.map(|order| (order, books.turn))
            };
            let Some((order, turn)) = begun else {
                self.wake.notified().await;
                continue;
            };
            let answer = match order {
                Order::Reduce(round) => self.reduce(round, turn).await,
                Order::Snapshot(take) => {
                    self.save(take);
                    self.finish(Given::default())
                }
                order => self.take_time(order, turn).await,
            };
            if let Some(answer) = answer
                && self.answers.send(answer).await.is_err()
            {
                return;
            }
        }
    }

    /// What takes nothing but time, unless it is cancelled.
    async fn take_time(&self, order: Order, turn: u64) -> Option<Answer> {
        let time = self.hub.time_for(&order);
        let elapsed = tokio::time::Instant::now();
        while elapsed.elapsed() < time {
            let left = time.saturating_sub(elapsed.elapsed());
            if timeout(left, self.wake.notified()).await.is_ok() && self.is_over(turn) {
                return None;
            }
        }
        let given = self.hub.given(&order, time);
        let applies = matches!(order, Order::Apply { .. });
        let answer = self.finish(given);
        if applies {
            self.hub.applied(self.worker);
        }
        answer
    }

    async fn reduce(&self, round: Round, turn: u64) -> Option<Answer> {
        let began = tokio::time::Instant::now();
        let mut summed = self.hub.sum(self.worker, &round);
        loop {
            tokio::select! {
                biased;
                sum = &mut summed => {
                    let sum = sum.ok();
                    return self.finish(Given { sum, state: None, elapsed: began.elapsed() });
                }
                () = self.wake.notified() => {
                    if self.is_over(turn) {
                        return None;
                    }
                }
                () = tokio::time::sleep_until(began + HOP_WITHIN) => {
                    self.finish(Given::default());
                    return Some(Answer::Failed(wire::WorkerFailed {
                        membership: round.membership,
                        kind: ErrorKind::Collective,
                        message: "a peer does not answer".to_owned(),
                        suspect: None,
                    }));
                }
            }
        }
    }

    /// Writes a checkpoint beside the work.
    fn save(&self, take: TakeCheckpoint) {
        let Some((state, time)) = self.hub.snapshot(self.worker, &take) else {
            return;
        };
        let (hub, answers) = (self.hub.clone(), self.answers.clone());
        tokio::spawn(async move {
            sleep(time).await;
            hub.saved(take.checkpoint.next_step, state);
            let written = Event::CheckpointWritten(CheckpointWritten {
                membership: take.membership,
                checkpoint: take.checkpoint,
                bytes: 8,
                elapsed: time,
            });
            // A worker that has ended waits for nothing.
            let _ = answers.send(Answer::Done(written)).await;
        });
    }

    fn is_over(&self, turn: u64) -> bool {
        look(&self.books).turn != turn
    }

    fn finish(&self, given: Given) -> Option<Answer> {
        look(&self.books).finish(given, (1, 2))
    }
}
