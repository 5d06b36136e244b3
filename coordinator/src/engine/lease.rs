//! Who computes which micro-batch of a step.
//!
//! ```text
//!            grant            accept
//!    pool ───────────► lease ────────► accepted
//!     ▲                  │                │
//!     └──────────────────┴────────────────┘  release: the worker is gone, or its accumulator is
//! ```
//!
//! A slot is in exactly one of three places. Workers pull: each gets its next slot when it reports one done, so fast
//! workers take more. While the pool is deep a worker holds two leases, so that it computes one while the other's report
//! travels; at the tail, and where it is slow, it holds one, so that nobody sits on work that an idle one could do.
//!
//! Slots of the tail, and those of a slow worker, are *staged*: their gradient enters the accumulator only when it is told
//! that it counts. So an idle worker may compute a copy of one that takes long; the first result wins and the other is
//! forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::{Epoch, LeaseId, SlotId, Step, WorkerId};
use weft_common::plan::{SlotPlan, StepPlan};
use weft_common::sum_digest::SumDigest;
use weft_common::time::Timestamp;
use weft_common::wire::{HeldSlot, LeasedSlot, RejectReason, SlotDone, SlotOutcome};

use super::action::AcceptedSlot;
use super::grants::{Grant, Grants};

/// Leases that one worker holds while the pool is deep.
const DEPTH: usize = 2;

/// Gives lease ids, each once within a term.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseIds(u64);

impl LeaseIds {
    fn take(&mut self) -> LeaseId {
        self.0 += 1;
        LeaseId(self.0)
    }
}

/// The slots of one step on their way from the pool to accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseBook {
    plan: Arc<StepPlan>,
    pool: BTreeSet<SlotId>,
    grants: Grants,
    accepted: BTreeMap<SlotId, AcceptedSlot>,
    /// Staged grants of slots that another worker finished first.
    overtaken: BTreeSet<LeaseId>,
}

/// A worker that could take a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Who.
    pub worker: WorkerId,
    /// The present membership.
    pub epoch: Epoch,
    /// How many workers share the step.
    pub world: usize,
    /// Whether it is much slower than the fastest.
    pub slow: bool,
    /// The moment.
    pub now: Timestamp,
}

/// What accepting a report led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// Whether the slot was staged, so that its worker must be told that it counts.
    pub merge: bool,
    /// Workers whose copies of the slot no longer matter, and their leases.
    pub overtaken: Vec<(WorkerId, LeaseId)>,
}

/// Why a report was not accepted, and what that means for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: RejectReason,
    /// Whether the sender's accumulator now holds what does not count.
    pub tainted: bool,
}

impl LeaseBook {
    /// All slots of `plan` in the pool.
    #[must_use]
    pub fn new(plan: Arc<StepPlan>) -> Self {
        Self {
            pool: plan.slots.iter().map(|slot| slot.slot).collect(),
            plan,
            grants: Grants::default(),
            accepted: BTreeMap::new(),
            overtaken: BTreeSet::new(),
        }
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> Step {
        self.plan.step
    }

    /// Whether every slot is accepted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.accepted.len() == self.plan.slots.len()
    }

    /// Slots that nobody has taken.
    #[must_use]
    pub fn pooled(&self) -> usize {
        self.pool.len()
    }

    /// Grants a worker its next slot, where it is due one.
    pub fn grant(&mut self, asker: &Asker, ids: &mut LeaseIds) -> Option<LeasedSlot> {
        let tail = self.pool.len() <= asker.world;
        let depth = if tail || asker.slow { 1 } else { DEPTH };
        let held = self.grants.of(asker.worker).count();
        let waits = self.grants.of(asker.worker).any(|grant| grant.staged);
        if held >= depth || waits {
            return None;
        }
        let slot = self.pool.pop_first()?;
        let staged = (tail || asker.slow) && asker.world > 1;
        Some(self.enter(slot, asker, staged, ids))
    }

    /// Grants an idle worker a copy of the staged slot that has been out longest, where that is longer than `patience`.
    pub fn grant_copy(
        &mut self,
        asker: &Asker,
        patience: Duration,
        ids: &mut LeaseIds,
    ) -> Option<LeasedSlot> {
        if !self.pool.is_empty() || self.holds(asker.worker) {
            return None;
        }
        let oldest = self.grants.oldest_uncopied()?;
        let due = asker.now.since(oldest.since) >= patience;
        let slot = due.then_some(oldest.slot)?;
        Some(self.enter(slot, asker, true, ids))
    }

    /// Whether a worker without work could be given some: a slot is free, or a staged one that nobody else computes has been
    /// out for so long.
    #[must_use]
    pub fn has_work(&self, patience: Duration, now: Timestamp) -> bool {
        let oldest = self.grants.oldest_uncopied();
        !self.pool.is_empty() || oldest.is_some_and(|grant| now.since(grant.since) >= patience)
    }

    fn enter(
        &mut self,
        slot: SlotId,
        asker: &Asker,
        staged: bool,
        ids: &mut LeaseIds,
    ) -> LeasedSlot {
        let lease = ids.take();
        let grant = Grant {
            slot,
            worker: asker.worker,
            epoch: asker.epoch,
            staged,
            since: asker.now,
        };
        self.grants.insert(lease, grant);
        LeasedSlot {
            lease,
            plan: self.slot_plan(slot).clone(),
            staged,
        }
    }

    /// Takes a computed slot. Each slot counts once.
    ///
    /// # Errors
    /// The slot was accepted before, the lease is not this worker's for this slot, or the report does not fit the plan.
    pub fn accept(&mut self, worker: WorkerId, done: &SlotDone) -> Result<Acceptance, Refused> {
        let grant = self.check(worker, done)?;
        self.grants.remove(done.lease);
        self.insert(worker, done.slot, done.outcome);
        let copies = self.grants.of_slot(done.slot);
        let overtaken: Vec<_> = copies.map(|(lease, g)| (g.worker, lease)).collect();
        for (_, lease) in &overtaken {
            self.grants.remove(*lease);
            self.overtaken.insert(*lease);
        }
        Ok(Acceptance {
            merge: grant.staged,
            overtaken,
        })
    }

    fn check(&self, worker: WorkerId, done: &SlotDone) -> Result<Grant, Refused> {
        let refused = |reason, tainted| Err(Refused { reason, tainted });
        let known = self.grants.get(done.lease).filter(|grant| {
            let granted = (grant.slot, grant.worker, grant.epoch);
            granted == (done.slot, worker, done.round.membership.epoch)
        });
        let own = self.accepted.get(&done.slot).map(|by| by.worker == worker);
        match (known, own) {
            (Some(grant), _) if fits(self.slot_plan(grant.slot), &done.outcome) => Ok(*grant),
            (Some(_), _) => refused(RejectReason::Outcome, true),
            (None, Some(own)) => {
                let harmless = own || self.overtaken.contains(&done.lease);
                refused(RejectReason::Slot, !harmless)
            }
            (None, None) => refused(RejectReason::Lease, true),
        }
    }

    fn insert(&mut self, worker: WorkerId, slot: SlotId, outcome: SlotOutcome) {
        let accepted = AcceptedSlot {
            slot,
            worker,
            outcome,
        };
        self.accepted.insert(slot, accepted);
    }

    /// Takes what a worker that comes back holds in its accumulator: all of it or, where a slot is no longer free,
    /// nothing.
    #[must_use]
    pub fn adopt(&mut self, worker: WorkerId, held: &[HeldSlot]) -> Adoption {
        let free = |held: &HeldSlot| {
            self.pool.contains(&held.slot) && fits(self.slot_plan(held.slot), &held.outcome)
        };
        let distinct: BTreeSet<SlotId> = held.iter().map(|held| held.slot).collect();
        if distinct.len() != held.len() || !held.iter().all(free) {
            return Adoption::Refused;
        }
        for held in held {
            self.pool.remove(&held.slot);
            self.insert(worker, held.slot, held.outcome);
        }
        Adoption::Counted
    }

    /// Returns to the pool what a worker was granted and what it had computed; how many slots that are.
    pub fn release(&mut self, worker: WorkerId) -> usize {
        let before = self.pool.len();
        let freed = self.grants.take_of(worker).into_iter();
        let mut freed: Vec<SlotId> = freed.map(|grant| grant.slot).collect();
        // A copy that another worker computes keeps the slot out of the pool.
        freed.retain(|slot| self.grants.of_slot(*slot).next().is_none());
        let own = self.accepted.values().filter(|by| by.worker == worker);
        freed.extend(own.map(|by| by.slot));
        self.accepted.retain(|_, by| by.worker != worker);
        self.pool.extend(freed);
        self.pool.len() - before
    }

    /// Whether a worker has leases.
    #[must_use]
    pub fn holds(&self, worker: WorkerId) -> bool {
        self.grants.of(worker).next().is_some()
    }

    /// Whether the step stands on a worker: it has leases, or slots that only its accumulator holds.
    #[must_use]
    pub fn stands_on(&self, worker: WorkerId) -> bool {
        self.holds(worker) || self.accepted.values().any(|by| by.worker == worker)
    }

    /// The last slot that a worker was granted and has not reported.
    #[must_use]
    pub fn last_slot_of(&self, worker: WorkerId) -> Option<SlotId> {
        self.grants.of(worker).last().map(|grant| grant.slot)
    }

    /// Hands over those that count, in slot order.
    pub(super) fn take_accepted(&mut self) -> Vec<AcceptedSlot> {
        std::mem::take(&mut self.accepted).into_values().collect()
    }

    /// The digests of what each worker computed and counts, added up.
    #[must_use]
    pub fn computed(&self) -> BTreeMap<WorkerId, SumDigest> {
        let mut computed: BTreeMap<WorkerId, SumDigest> = BTreeMap::new();
        for by in self.accepted.values() {
            let own = computed.entry(by.worker).or_default();
            *own = own.plus(by.outcome.digest.into());
        }
        computed
    }

    /// Who holds leases or computed slots that count.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        let granted = self.grants.all().map(|(_, grant)| grant.worker);
        granted.chain(self.accepted.values().map(|by| by.worker))
    }

    /// How often each slot of the plan is in the pool, leased (copies count once), or accepted; once each, or something
    /// is broken.
    #[must_use]
    pub fn places(&self) -> BTreeMap<SlotId, usize> {
        let mut places: BTreeMap<SlotId, usize> =
            self.plan.slots.iter().map(|slot| (slot.slot, 0)).collect();
        let leased: BTreeSet<SlotId> = self.grants.all().map(|(_, grant)| grant.slot).collect();
        for slot in self.pool.iter().chain(&leased).chain(self.accepted.keys()) {
            *places.entry(*slot).or_default() += 1;
        }
        places
    }

    fn slot_plan(&self, slot: SlotId) -> &SlotPlan {
        &self.plan.slots[slot.0 as usize]
    }
}

/// Whether what a returning worker holds counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// All of it.
    Counted,
    /// None of it; the worker must drop it.
    Refused,
}

fn fits(plan: &SlotPlan, outcome: &SlotOutcome) -> bool {
    (plan.tokens, plan.supervised_tokens) == (outcome.tokens, outcome.supervised)
}
