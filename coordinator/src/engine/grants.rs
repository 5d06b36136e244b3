//! Leases that are out, found by their number and by who holds them.

use std::collections::{BTreeMap, BTreeSet};

use weft_common::id::{Epoch, LeaseId, SlotId, WorkerId};
use weft_common::time::Timestamp;

/// One slot, granted to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) slot: SlotId,
    pub(super) worker: WorkerId,
    /// The membership it was granted in; it outlives that membership as long as its worker is a member.
    pub(super) epoch: Epoch,
    pub(super) staged: bool,
    pub(super) since: Timestamp,
}

/// Leases that are out. Every report asks for those of its sender and of its slot, and every idle worker for a staged one
/// to copy, so that hundreds of workers must not make that a walk over all.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Grants {
    by_lease: BTreeMap<LeaseId, Grant>,
    by_worker: BTreeMap<WorkerId, BTreeSet<LeaseId>>,
    by_slot: BTreeMap<SlotId, BTreeSet<LeaseId>>,
    /// Staged leases of slots that nobody else computes.
    uncopied: BTreeSet<LeaseId>,
}

impl Grants {
    pub(super) fn insert(&mut self, lease: LeaseId, grant: Grant) {
        self.by_lease.insert(lease, grant);
        let own = self.by_worker.entry(grant.worker).or_default();
        own.insert(lease);
        let same = self.by_slot.entry(grant.slot).or_default();
        same.insert(lease);
        self.sort(grant.slot);
    }

    pub(super) fn remove(&mut self, lease: LeaseId) -> Option<Grant> {
        let grant = self.by_lease.remove(&lease)?;
        self.uncopied.remove(&lease);
        take(&mut self.by_worker, grant.worker, lease);
        take(&mut self.by_slot, grant.slot, lease);
        self.sort(grant.slot);
        Some(grant)
    }

    /// Notes whether a slot's leases have copies, now that there is another number of them.
    fn sort(&mut self, slot: SlotId) {
        let Some(leases) = self.by_slot.get(&slot) else {
            return;
        };
        for lease in leases {
            let staged = self.by_lease.get(lease).is_some_and(|grant| grant.staged);
            if staged && leases.len() == 1 {
                self.uncopied.insert(*lease);
            } else {
                self.uncopied.remove(lease);
            }
        }
    }

    pub(super) fn get(&self, lease: LeaseId) -> Option<&Grant> {
        self.by_lease.get(&lease)
    }

    /// All, the oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = (LeaseId, &Grant)> {
        self.by_lease.iter().map(|(lease, grant)| (*lease, grant))
    }

    /// A worker's, the oldest first.
    pub(super) fn of(&self, worker: WorkerId) -> impl Iterator<Item = &Grant> {
        let own = self.by_worker.get(&worker).into_iter().flatten();
        own.filter_map(|lease| self.by_lease.get(lease))
    }

    /// Those of a slot, the oldest first.
    pub(super) fn of_slot(&self, slot: SlotId) -> impl Iterator<Item = (LeaseId, &Grant)> {
        let same = self.by_slot.get(&slot).into_iter().flatten();
        same.filter_map(|lease| Some((*lease, self.by_lease.get(lease)?)))
    }

    /// The staged one that has been out longest of those whose slot nobody else computes. Leases are numbered in the order
    /// in which they are granted.
    pub(super) fn oldest_uncopied(&self) -> Option<&Grant> {
        self.by_lease.get(self.uncopied.first()?)
    }

    /// Takes back all that a worker holds.
    pub(super) fn take_of(&mut self, worker: WorkerId) -> Vec<Grant> {
        let own = self.by_worker.get(&worker).cloned().unwrap_or_default();
        own.into_iter()
            .filter_map(|lease| self.remove(lease))
            .collect()
    }
}

/// Takes a lease out of those that are found by `key`.
fn take<K: Ord>(leases: &mut BTreeMap<K, BTreeSet<LeaseId>>, key: K, lease: LeaseId) {
    if let Some(own) = leases.get_mut(&key) {
        own.remove(&lease);
        if own.is_empty() {
            leases.remove(&key);
        }
    }
}
