//! Who computes which micro-batch of a step.
//!
//! A slot is in exactly one of three places: the pool, a lease, or accepted. Workers pull: each gets its next slot when
//! it reports one done, so fast workers take more. While the pool is deep a worker holds two leases, so that it computes
//! one while the other's report travels; at the tail it holds one, so that nobody sits on work that an idle one could do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use weft_common::id::{LeaseId, SlotId, Step, WorkerId};
use weft_common::plan::{SlotPlan, StepPlan};
use weft_common::wire::{LeasedSlot, RejectReason, SlotDone};

use super::action::AcceptedSlot;

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
    pool: VecDeque<SlotId>,
    leases: BTreeMap<LeaseId, Grant>,
    accepted: BTreeMap<SlotId, AcceptedSlot>,
}

/// One slot, granted to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// What.
    pub slot: SlotId,
    /// To whom.
    pub worker: WorkerId,
}

/// What accepting a report led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Slots are missing.
    More,
    /// That was the last one.
    Complete,
}

impl LeaseBook {
    /// All slots of `plan` in the pool.
    #[must_use]
    pub fn new(plan: Arc<StepPlan>) -> Self {
        Self {
            pool: plan.slots.iter().map(|slot| slot.slot).collect(),
            plan,
            leases: BTreeMap::new(),
            accepted: BTreeMap::new(),
        }
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> Step {
        self.plan.step
    }

    /// Grants every worker its first slots, one after another, so that none gets a second before all have one.
    pub fn grant_all(
        &mut self,
        workers: &[WorkerId],
        ids: &mut LeaseIds,
    ) -> BTreeMap<WorkerId, Vec<LeasedSlot>> {
        let mut granted: BTreeMap<WorkerId, Vec<LeasedSlot>> = BTreeMap::new();
        for _ in 0..DEPTH {
            for worker in workers {
                let slots = granted.entry(*worker).or_default();
                slots.extend(self.grant_one(*worker, workers.len(), ids));
            }
        }
        granted
    }

    /// Grants `worker` its next slot, where it is due one.
    pub fn grant_one(
        &mut self,
        worker: WorkerId,
        world: usize,
        ids: &mut LeaseIds,
    ) -> Option<LeasedSlot> {
        let depth = if self.pool.len() > world { DEPTH } else { 1 };
        let held = self.leases.values().filter(|g| g.worker == worker).count();
        if held >= depth {
            return None;
        }
        let slot = self.pool.pop_front()?;
        let lease = ids.take();
        self.leases.insert(lease, Grant { slot, worker });
        Some(LeasedSlot {
            lease,
            plan: self.slot_plan(slot).clone(),
        })
    }

    /// Takes a computed slot. Each slot counts once.
    ///
    /// # Errors
    /// The slot was accepted before, or the lease is not this worker's for this slot.
    pub fn accept(
        &mut self,
        worker: WorkerId,
        done: &SlotDone,
    ) -> Result<Acceptance, RejectReason> {
        if self.accepted.contains_key(&done.slot) {
            return Err(RejectReason::Slot);
        }
        let grant = Grant {
            slot: done.slot,
            worker,
        };
        if self.leases.get(&done.lease) != Some(&grant) {
            return Err(RejectReason::Lease);
        }
        self.leases.remove(&done.lease);
        self.accepted.insert(
            done.slot,
            AcceptedSlot {
                slot: done.slot,
                worker,
                outcome: done.outcome,
            },
        );
        let complete = self.accepted.len() == self.plan.slots.len();
        Ok(if complete {
            Acceptance::Complete
        } else {
            Acceptance::More
        })
    }

    /// The last slot that `worker` was granted and has not reported.
    #[must_use]
    pub fn last_slot_of(&self, worker: WorkerId) -> Option<SlotId> {
        let mut held = self.leases.values().filter(|g| g.worker == worker);
        held.next_back().map(|grant| grant.slot)
    }

    /// Hands over those that count, in slot order.
    pub(super) fn take_accepted(&mut self) -> Vec<AcceptedSlot> {
        std::mem::take(&mut self.accepted).into_values().collect()
    }

    /// Who holds leases.
    pub fn holders(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.leases.values().map(|grant| grant.worker)
    }

    /// How often each slot of the plan is in the pool, leased, or accepted; once each, or something is broken.
    #[must_use]
    pub fn places(&self) -> BTreeMap<SlotId, usize> {
        let mut places: BTreeMap<SlotId, usize> =
            self.plan.slots.iter().map(|slot| (slot.slot, 0)).collect();
        let leased = self.leases.values().map(|grant| &grant.slot);
        for slot in self.pool.iter().chain(leased).chain(self.accepted.keys()) {
            *places.entry(*slot).or_default() += 1;
        }
        places
    }

    fn slot_plan(&self, slot: SlotId) -> &SlotPlan {
        &self.plan.slots[slot.0 as usize]
    }
}
