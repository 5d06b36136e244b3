//! Notices a training thread that does not get on: its worker ends then, instead of being waited for.
//!
//! The thread says what it is at ([`Work`]), and the driver looks at that every second ([`Watchdog`]). Only time in which
//! the driver itself ran counts, so that a process that was stopped is not taken for one that hangs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::order::Order;

/// How often the driver looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks no more than this counts.
const OWN_PAUSE: Duration = Duration::from_secs(2);

/// A task may take so many times as long as the longest micro-batch took.
const FACTOR: u32 = 8;

/// The first micro-batch, of which nobody knows how long it takes.
const FIRST_SLOT_WITHIN: Duration = Duration::from_secs(600);

/// A model or a state, from a slow disk.
const LOAD_WITHIN: Duration = Duration::from_secs(1800);

/// A sum has deadlines of its own, for each of many hops.
const SUM_WITHIN: Duration = Duration::from_secs(600);

/// What the training thread is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// It makes an engine, or brings it to a state.
    Load,
    /// It computes a micro-batch.
    Slot,
    /// It sums with the others.
    Sum,
    /// What takes no time to speak of.
    Brief,
}

impl Task {
    pub(super) fn of(order: &Order) -> Self {
        match order {
            Order::Load(_) | Order::Restore(_) | Order::Adopt { .. } => Self::Load,
            Order::Compute { .. } => Self::Slot,
            Order::Reduce(_) => Self::Sum,
            Order::Describe(_)
            | Order::Settle(_)
            | Order::Join(_)
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Apply { .. }
            | Order::Snapshot(_)
            | Order::Unload => Self::Brief,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "loading a job",
            Self::Slot => "computing a micro-batch",
            Self::Sum => "summing with the others",
            Self::Brief => "what usually takes no time",
        })
    }
}

/// What the training thread is at, as it says itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Work(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Counts tasks.
    number: u64,
    task: Option<Task>,
}

impl Work {
    /// A task begins.
    pub(super) fn begin(&self, task: Task) {
        let mut state = self.lock();
        state.number += 1;
        state.task = Some(task);
    }

    /// It is done.
    pub(super) fn end(&self) {
        self.lock().task = None;
    }

    /// Nobody panics while holding the lock; if somebody did, two words are still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The training thread hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hung {
    task: Task,
    spent: Duration,
}

impl fmt::Display for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.spent.as_secs_f64();
        write!(
            f,
            "its training thread has been at {} for {seconds:.0} s; start it again, and look at the device and the disk if \
             that comes again",
            self.task
        )
    }
}

/// Measures how long the training thread is at one task.
#[derive(Debug)]
pub(super) struct Watchdog {
    work: Work,
    /// How long what takes no time may take.
    patience: Duration,
    longest_slot: Duration,
    number: u64,
    spent: Duration,
    looked: Instant,
}

impl Watchdog {
    pub(super) fn new(work: Work, patience: Duration, now: Instant) -> Self {
        Self {
            work,
            patience,
            longest_slot: Duration::ZERO,
            number: 0,
            spent: Duration::ZERO,
            looked: now,
        }
    }

    /// A micro-batch was computed.
    pub(super) fn computed(&mut self, elapsed: Duration) {
        self.longest_slot = self.longest_slot.max(elapsed);
    }

    /// Looks at the thread. While the worker `settles`, sums are cancelled and must end at once.
    pub(super) fn look(&mut self, now: Instant, settles: bool) -> Option<Hung> {
        let passed = now.saturating_duration_since(self.looked).min(OWN_PAUSE);
        self.looked = now;
        let State { number, task } = *self.work.lock();
        if number != self.number {
            (self.number, self.spent) = (number, Duration::ZERO);
            return None;
        }
        self.spent += passed;
        let (task, spent) = (task?, self.spent);
        (spent >= self.limit(task, settles)).then_some(Hung { task, spent })
    }

    fn limit(&self, task: Task, settles: bool) -> Duration {
        let usual = self.patience.max(self.longest_slot * FACTOR);
        match task {
            Task::Load => LOAD_WITHIN,
            Task::Slot if self.longest_slot.is_zero() => FIRST_SLOT_WITHIN,
            Task::Sum if !settles => SUM_WITHIN,
            Task::Slot | Task::Sum | Task::Brief => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Fixture {
        work: Work,
        watchdog: Watchdog,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let (work, now) = (Work::default(), Instant::now());
            Self {
                watchdog: Watchdog::new(work.clone(), PATIENCE, now),
                work,
                now,
            }
        }

        /// After how many seconds of looking it hangs, where it does within `most`.
        fn hangs_after(&mut self, most: u64, settles: bool) -> Option<u64> {
            let mut looks = 1..=most;
            looks.find(|_| {
                self.now += LOOK_EVERY;
                self.watchdog.look(self.now, settles).is_some()
            })
        }
    }

    #[test]
    fn a_thread_that_gets_on_is_left_alone_however_long_it_works() {
        let mut fixture = Fixture::new();
        for _ in 0..100 {
            fixture.work.begin(Task::Brief);
            assert_eq!(fixture.hangs_after(20, false), None);
            fixture.work.end();
            assert_eq!(fixture.hangs_after(40, false), None);
        }
    }

    #[test]
    fn each_task_has_its_own_patience() {
        let cases = [
            (Task::Brief, false, 31),
            (Task::Slot, false, 601),
            (Task::Sum, false, 601),
            (Task::Sum, true, 31),
            (Task::Load, true, 1801),
        ];
        for (task, settles, seconds) in cases {
            let mut fixture = Fixture::new();
            fixture.work.begin(task);
            assert_eq!(fixture.hangs_after(2000, settles), Some(seconds), "{task}");
        }
    }

    #[test]
    fn a_micro_batch_may_take_eight_times_as_long_as_the_longest() {
        let mut fixture = Fixture::new();
        fixture.watchdog.computed(Duration::from_secs(10));
        fixture.work.begin(Task::Slot);
        assert_eq!(fixture.hangs_after(100, false), Some(81));
        fixture.watchdog.computed(Duration::from_secs(1));
        fixture.work.begin(Task::Slot);
        assert_eq!(fixture.hangs_after(100, false), Some(81));
    }

    #[test]
    fn a_process_that_stood_still_does_not_hang() {
        let mut fixture = Fixture::new();
        fixture.work.begin(Task::Brief);
        assert_eq!(fixture.hangs_after(10, false), None);
        fixture.now += Duration::from_secs(3600);
        assert_eq!(fixture.watchdog.look(fixture.now, false), None);
    }
}
