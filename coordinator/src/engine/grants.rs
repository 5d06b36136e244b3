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

/// Leases that are out. Every report asks for those of its sender, so that hundreds of workers must not make that a walk
/// over all.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Grants {
    by_lease: BTreeMap<LeaseId, Grant>,
    by_worker: BTreeMap<WorkerId, BTreeSet<LeaseId>>,
}

impl Grants {
    pub(super) fn insert(&mut self, lease: LeaseId, grant: Grant) {
        self.by_lease.insert(lease, grant);
        self.by_worker
            .entry(grant.worker)
            .or_default()
            .insert(lease);
    }

    pub(super) fn remove(&mut self, lease: LeaseId) {
        let Some(grant) = self.by_lease.remove(&lease) else {
            return;
        };
        if let Some(own) = self.by_worker.get_mut(&grant.worker) {
            own.remove(&lease);
            if own.is_empty() {
                self.by_worker.remove(&grant.worker);
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

    /// Takes back all that a worker holds.
    pub(super) fn take_of(&mut self, worker: WorkerId) -> Vec<Grant> {
        let own = self.by_worker.remove(&worker).unwrap_or_default();
        own.iter()
            .filter_map(|lease| self.by_lease.remove(lease))
            .collect()
    }
}
