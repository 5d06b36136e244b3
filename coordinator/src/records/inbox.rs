//! What waits to be written. Who fills it never waits for a disk.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weft_common::id::JobId;

use super::entry::{Entry, Submitted};
use super::error::RecordsError;
use crate::view::JobView;

/// Entries that may wait: some minutes of what a full pool does, while a disk stands still.
pub(super) const ENTRIES: usize = 1 << 16;

/// What waits, shared by those who fill it and the writer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// The place of the last job that was handed in.
    number: u64,
    lost: u64,
    closed: bool,
}

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Bounded by the submissions that are under way, each of which waits for its answer.
    pub(super) submitted: Vec<Submitted>,
    /// At most [`ENTRIES`].
    pub(super) entries: Vec<Entry>,
    /// The last word on each job: bounded by their number, so that no end is ever lost.
    pub(super) jobs: BTreeMap<JobId, JobView>,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    Write(Batch),
    Stop,
}

impl Inbox {
    /// An empty one; jobs are counted on from `number`.
    pub(super) fn after(number: u64) -> Self {
        let inbox = Self::default();
        inbox.waiting().number = number;
        inbox
    }

    pub(super) fn next_number(&self) -> u64 {
        let mut waiting = self.waiting();
        waiting.number += 1;
        waiting.number
    }

    /// Waits until a job is durable; `None` where that takes longer than `within`.
    pub(super) fn submit(
        &self,
        view: Box<JobView>,
        number: u64,
        within: Duration,
    ) -> Option<Result<(), RecordsError>> {
        let (reply, answered) = sync_channel(1);
        self.waiting().batch.submitted.push(Submitted {
            view,
            number,
            reply,
        });
        self.filled.notify_one();
        answered.recv_timeout(within).ok()
    }

    /// One more entry; one too many is counted and lost.
    pub(super) fn push(&self, entry: Entry) {
        let mut waiting = self.waiting();
        if waiting.batch.entries.len() < ENTRIES {
            waiting.batch.entries.push(entry);
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        self.filled.notify_one();
    }

    pub(super) fn stands(&self, view: JobView) {
        self.waiting().batch.jobs.insert(view.id.clone(), view);
        self.filled.notify_one();
    }

    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.filled.notify_one();
    }

    /// How many entries were lost since this was last asked.
    pub(super) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.waiting().lost)
    }

    /// Waits for something to write.
    pub(super) fn next(&self) -> Next {
        let mut waiting = self.waiting();
        while waiting.batch.is_empty() && !waiting.closed {
            let woken = self.filled.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.batch.is_empty() {
            return Next::Stop;
        }
        Next::Write(std::mem::take(&mut waiting.batch))
    }

    /// Takes back what could not be written, before what came meanwhile, and waits a while. Whether to try again.
    pub(super) fn put_back(&self, mut batch: Batch, pause: Duration) -> bool {
        let mut waiting = self.waiting();
        let newer = std::mem::take(&mut waiting.batch);
        batch.submitted.extend(newer.submitted);
        batch.jobs.extend(newer.jobs);
        let room = ENTRIES.saturating_sub(batch.entries.len());
        waiting.lost += newer.entries.len().saturating_sub(room) as u64;
        batch.entries.extend(newer.entries.into_iter().take(room));
        waiting.batch = batch;
        let tried = |waiting: &mut Waiting| !waiting.closed && waiting.batch.submitted.is_empty();
        let (waiting, _) = self
            .filled
            .wait_timeout_while(waiting, pause, tried)
            .unwrap_or_else(PoisonError::into_inner);
        !waiting.closed
    }

    /// Nobody panics while holding the lock; if somebody did, what is there is still whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.submitted.is_empty() && self.entries.is_empty() && self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::view;

    #[test]
    fn what_is_too_much_is_counted_and_the_last_word_on_a_job_never_lost() {
        let inbox = Inbox::after(7);
        for _ in 0..ENTRIES + 3 {
            inbox.push(Entry::Withdrawn("job-1".parse().unwrap()));
        }
        for workers in [1, 2, 3] {
            let mut job = view("job-1");
            job.workers = workers;
            inbox.stands(job);
        }
        assert_eq!((inbox.take_lost(), inbox.take_lost()), (3, 0));
        let Next::Write(batch) = inbox.next() else {
            panic!("something waits");
        };
        assert_eq!(batch.entries.len(), ENTRIES);
        assert_eq!(batch.jobs.len(), 1);
        assert_eq!(batch.jobs.values().next().map(|job| job.workers), Some(3));
        assert_eq!(inbox.next_number(), 8);
    }

    #[test]
    fn what_could_not_be_written_comes_before_what_came_meanwhile() {
        let inbox = Inbox::default();
        let entry = |committed| Entry::RolledBack {
            job: "job-1".parse().unwrap(),
            committed,
        };
        inbox.push(entry(1));
        let Next::Write(batch) = inbox.next() else {
            panic!("something waits");
        };
        inbox.push(entry(2));
        inbox.close();
        assert!(!inbox.put_back(batch, Duration::ZERO));
        let Next::Write(batch) = inbox.next() else {
            panic!("something waits");
        };
        let order: Vec<u64> = batch
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::RolledBack { committed, .. } => *committed,
                Entry::Event { .. } | Entry::Step { .. } | Entry::Withdrawn(_) => 0,
            })
            .collect();
        assert_eq!(order, [1, 2]);
    }
}
