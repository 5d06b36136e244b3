//! Leasing: who computes which slot of the step in hand.

use std::collections::BTreeMap;

use weft_common::id::{Epoch, Step, WorkerId};
use weft_common::wire::{Command, Lease, LeasedSlot, RejectReason, Settle, SlotDone, Verdict};

use super::super::context::Context;
use super::super::lease::{Acceptance, Asker, Refused};
use super::super::terms::JobTerms;
use super::Run;
use super::progress::COPY_AFTER_AT_LEAST;

/// What is known since all members were last asked whether they are due a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    step: Step,
    epoch: Epoch,
    /// Slots that were left in the pool.
    pooled: usize,
    /// What the fastest of them needs for a token, in seconds.
    fastest: Option<f64>,
}

impl Run {
    /// A member computed a slot.
    pub(super) fn slot_done(&mut self, worker: WorkerId, done: &SlotDone, cx: &mut Context<'_>) {
        match self.accept(worker, done, cx) {
            Ok(acceptance) => {
                self.progress.computed(worker, done);
                if let Some(round) = &mut self.round {
                    round.computed(worker, done.elapsed);
                }
                Self::settle(worker, done, acceptance, cx);
            }
            Err(refused) => {
                cx.reject(worker, done.round.clone(), refused.reason);
                if refused.tainted {
                    self.taint(worker);
                }
            }
        }
    }

    fn accept(
        &mut self,
        worker: WorkerId,
        done: &SlotDone,
        cx: &Context<'_>,
    ) -> Result<Acceptance, Refused> {
        let untainted = |reason| Refused {
            reason,
            tainted: false,
        };
        self.fence(worker, &done.round, cx).map_err(untainted)?;
        let planned = self.round.as_mut().filter(|round| {
            usize::try_from(done.slot.0).is_ok_and(|slot| slot < round.plan.slots.len())
        });
        match planned {
            Some(round) => round.book.accept(worker, done),
            None => Err(untainted(RejectReason::Slot)),
        }
    }

    fn settle(worker: WorkerId, done: &SlotDone, acceptance: Acceptance, cx: &mut Context<'_>) {
        let own = acceptance
            .merge
            .then_some((worker, done.lease, Verdict::Merge));
        let others = acceptance
            .overtaken
            .into_iter()
            .map(|(worker, lease)| (worker, lease, Verdict::Discard));
        for (worker, lease, verdict) in own.into_iter().chain(others) {
            let settle = Settle {
                round: done.round.clone(),
                lease,
                verdict,
            };
            cx.send(worker, Command::Settle(settle));
        }
    }

    /// A member's accumulator holds what does not count: in the next epoch it starts the step anew.
    pub(super) fn taint(&mut self, worker: WorkerId) {
        if let Some(round) = self.round.as_mut().filter(|round| !round.is_decided()) {
            round.book.release(worker);
            self.tainted.insert(worker);
        }
    }

    /// Grants slots to members that are due one, none a second before all have one. `reporter` is who reported, where
    /// nothing else happened.
    pub(super) fn lease(
        &mut self,
        terms: &JobTerms,
        reporter: Option<WorkerId>,
        cx: &mut Context<'_>,
    ) {
        if !self.is_leasing() || self.is_short(terms) || !self.has_free_work(cx) {
            return;
        }
        let askers = self.askers(reporter, cx);
        let mut granted: BTreeMap<WorkerId, Vec<LeasedSlot>> = BTreeMap::new();
        loop {
            let before: usize = granted.values().map(Vec::len).sum();
            for asker in &askers {
                granted
                    .entry(asker.worker)
                    .or_default()
                    .extend(self.grant(asker, cx));
            }
            if granted.values().map(Vec::len).sum::<usize>() == before {
                break;
            }
        }
        for (worker, slots) in granted.into_iter().filter(|(_, slots)| !slots.is_empty()) {
            self.progress.touch(worker, cx.now);
            let lease = self.lease_of(slots);
            cx.send(worker, Command::Lease(lease));
        }
        if let Some(asked) = &mut self.asked {
            asked.pooled = self.round.as_ref().map_or(0, |round| round.book.pooled());
        }
    }

    /// Whom to ask. Once all were asked, only who reports can have become due another slot, as long as none returns to the
    /// pool: with hundreds of members, nobody else is asked then until the next tick.
    fn askers(&mut self, reporter: Option<WorkerId>, cx: &Context<'_>) -> Vec<Asker> {
        let (step, epoch) = (self.committed, self.members.membership().epoch);
        let pooled = self.round.as_ref().map_or(0, |round| round.book.pooled());
        let same = |asked: &Asked| (asked.step, asked.epoch) == (step, epoch);
        let before = self
            .asked
            .filter(|asked| same(asked) && pooled <= asked.pooled);
        let (workers, fastest) = match (before, reporter) {
            (Some(asked), Some(worker)) => {
                let stays = self.is_live(worker) && !self.leaving.contains_key(&worker);
                (Vec::from_iter(stays.then_some(worker)), asked.fastest)
            }
            (None, _) | (_, None) => {
                let staying = self.staying();
                let fastest = self.progress.fastest(&staying);
                (staying, fastest)
            }
        };
        self.asked = Some(Asked {
            step,
            epoch,
            pooled,
            fastest,
        });
        let world = self.staying_count();
        let each = workers.into_iter().map(|worker| Asker {
            worker,
            epoch,
            world,
            slow: self.progress.is_slow(worker, fastest),
            now: cx.now,
        });
        each.collect()
    }

    /// Whether an idle member could be given something; most reports come when there is nothing to give.
    fn has_free_work(&self, cx: &Context<'_>) -> bool {
        let round = self.round.as_ref();
        round.is_some_and(|round| round.book.has_work(COPY_AFTER_AT_LEAST, cx.now))
    }

    fn grant(&mut self, asker: &Asker, cx: &mut Context<'_>) -> Option<LeasedSlot> {
        let book = &mut self.round.as_mut()?.book;
        let slot = book.grant(asker, cx.lease_ids);
        let patience = self.progress.patience(asker.worker);
        slot.or_else(|| book.grant_copy(asker, patience?, cx.lease_ids))
    }

    fn lease_of(&self, slots: Vec<LeasedSlot>) -> Lease {
        let plan = self.round.as_ref().map(|round| &round.plan);
        Lease {
            round: self.current(),
            step_supervised: plan.map_or(0, |plan| plan.supervised_tokens()),
            slots,
        }
    }

    /// All slots are accepted: members sum, unless a joiner is about to have the state of this very step.
    pub(super) fn seal(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        let complete =
            self.is_leasing() && self.round.as_ref().is_some_and(|r| r.book.is_complete());
        if !complete || self.is_short(terms) || self.waits_for_joiner(cx) {
            return;
        }
        if let Some(round) = &mut self.round {
            round.seal(cx.now);
        }
        let live = self.live();
        for worker in &live {
            self.progress.touch(*worker, cx.now);
        }
        cx.send_all(&live, &Command::Seal(self.current()));
    }
}
