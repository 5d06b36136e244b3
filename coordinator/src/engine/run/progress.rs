//! How fast members are, and when they were last seen to get on with their work.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_common::id::WorkerId;
use weft_common::time::Timestamp;
use weft_common::wire::SlotDone;

use super::super::context::Context;
use super::super::job::Loss;
use super::super::outcome::LossCause;
use super::super::round::Phase;
use super::Run;

/// Share of a new measurement in the running mean.
const NEWS: f64 = 0.3;

/// A member that takes this much longer per token than the fastest is slow: it gets one slot at a time.
const SLOW: f64 = 1.5;

/// A tail slot that is out for this many times what an idle member would need for it is computed twice.
const COPY_AFTER: f64 = 1.5;

/// And for at least so long: a copy must be worth its messages.
pub(super) const COPY_AFTER_AT_LEAST: Duration = Duration::from_millis(100);

/// What a worker is told that is taken for one that hangs.
pub(super) const HANGS: &str = "it hangs: restart it";

/// How fast members are, and when they were last seen to get on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    members: BTreeMap<WorkerId, Pace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Pace {
    seen: Timestamp,
    seconds_per_token: Option<f64>,
    seconds_per_slot: f64,
}

impl Progress {
    /// A member got on, or was given something to do.
    pub(super) fn touch(&mut self, worker: WorkerId, now: Timestamp) {
        self.members.entry(worker).or_default().seen = now;
    }

    /// A member computed a slot.
    pub(super) fn computed(&mut self, worker: WorkerId, done: &SlotDone) {
        let pace = self.members.entry(worker).or_default();
        let slot = done.elapsed.as_secs_f64();
        let token = slot / done.outcome.tokens.max(1) as f64;
        let mean = |old: f64, new: f64| old + NEWS * (new - old);
        pace.seconds_per_slot = match pace.seconds_per_token {
            Some(_) => mean(pace.seconds_per_slot, slot),
            None => slot,
        };
        pace.seconds_per_token = Some(pace.seconds_per_token.map_or(token, |old| mean(old, token)));
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.members.remove(&worker);
    }

    /// What the fastest of these members needs for a token, in seconds.
    pub(super) fn fastest(&self, members: &[WorkerId]) -> Option<f64> {
        let paces = members.iter().filter_map(|worker| self.pace(*worker));
        paces.min_by(f64::total_cmp)
    }

    fn pace(&self, worker: WorkerId) -> Option<f64> {
        self.members.get(&worker)?.seconds_per_token
    }

    /// Whether a member is much slower than the fastest.
    pub(super) fn is_slow(&self, worker: WorkerId, fastest: Option<f64>) -> bool {
        match (self.pace(worker), fastest) {
            (Some(own), Some(fastest)) => own > SLOW * fastest,
            (None, _) | (_, None) => false,
        }
    }

    /// How long a tail slot must be out before this member computes it as well; `None` while its pace is unknown.
    pub(super) fn patience(&self, worker: WorkerId) -> Option<Duration> {
        let pace = self.members.get(&worker)?;
        pace.seconds_per_token?;
        let usual = Duration::from_secs_f64(pace.seconds_per_slot * COPY_AFTER);
        Some(usual.max(COPY_AFTER_AT_LEAST))
    }

    /// Since when a member has not got on, where that is too long; `slowest` as below.
    fn stalled(
        &self,
        worker: WorkerId,
        slowest: Option<f64>,
        cx: &Context<'_>,
    ) -> Option<Duration> {
        let pace = self.members.get(&worker)?;
        let limits = cx.limits;
        // Of a member that has computed nothing yet it is expected to be the slowest.
        let usual = pace.usual().or(slowest).map(Duration::from_secs_f64);
        let limit = match usual {
            Some(usual) => limits.stalled_after.max(usual * limits.stalled_factor),
            None => limits.first_slot_within,
        };
        let since = cx.now.since(pace.seen);
        (since >= limit).then_some(since)
    }

    /// How long a micro-batch takes the slowest member, in seconds; `None` where nobody has computed one.
    fn slowest(&self) -> Option<f64> {
        let usual = self.members.values().filter_map(Pace::usual);
        usual.max_by(f64::total_cmp)
    }
}

impl Pace {
    /// How long a micro-batch takes, in seconds, where one was computed.
    fn usual(&self) -> Option<f64> {
        self.seconds_per_token.map(|_| self.seconds_per_slot)
    }
}

impl Run {
    /// Ends the sessions of members that have work and do not get on with it, though they send signs of life.
    pub(super) fn end_stalls(&mut self, cx: &mut Context<'_>) {
        let slowest = self.progress.slowest();
        for worker in self.live() {
            let since = self.progress.stalled(worker, slowest, cx);
            if let Some(since) = since.filter(|_| self.has_work(worker)) {
                let loss = Loss {
                    worker,
                    name: self.name(worker, cx),
                    cause: LossCause::Stalled(since),
                };
                self.worker_gone(&loss, cx);
                cx.dismiss(worker, HANGS);
            }
        }
    }

    fn has_work(&self, worker: WorkerId) -> bool {
        let applies = self.applying.as_ref().is_some_and(|a| a.awaits(worker));
        let works = self.round.as_ref().is_some_and(|round| match &round.phase {
            Phase::Leasing => round.book.holds(worker),
            Phase::Reducing { sums } => !sums.has(worker),
            Phase::Committing { .. } => false,
        });
        applies || works
    }
}
