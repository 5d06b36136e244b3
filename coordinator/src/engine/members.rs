//! The members of one epoch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use weft_common::id::{Rank, WorkerId};
use weft_common::wire::{EngineInfo, Member, Membership, RejectReason};

use super::outcome::WorkerName;

/// The members of one epoch, in rank order; none before the first one.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    membership: Membership,
    list: Vec<MemberRecord>,
    /// Where each is in the list.
    places: BTreeMap<WorkerId, usize>,
}

/// One member.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberRecord {
    /// Who.
    pub name: WorkerName,
    /// Its engine, as it was when it got ready.
    pub engine: EngineInfo,
    /// Where its ring listens.
    pub ring: SocketAddr,
    /// Where it serves its state.
    pub peer: SocketAddr,
}

impl Members {
    /// A new membership; ranks follow the order of `list`.
    #[must_use]
    pub fn new(membership: Membership, mut list: Vec<MemberRecord>) -> Self {
        for (rank, member) in (0..).zip(&mut list) {
            member.name.rank = Some(Rank(rank));
        }
        let places = list.iter().map(|member| member.name.worker);
        Self {
            places: places.zip(0..).collect(),
            membership,
            list,
        }
    }

    /// Job, term and epoch.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The members, in rank order.
    #[must_use]
    pub fn list(&self) -> &[MemberRecord] {
        &self.list
    }

    /// The members in rank order, given up.
    #[must_use]
    pub fn into_list(self) -> Vec<MemberRecord> {
        self.list
    }

    /// How many.
    #[must_use]
    pub fn world(&self) -> usize {
        self.list.len()
    }

    /// How many, as messages carry it.
    #[must_use]
    pub fn world_u32(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    /// Their ids, in rank order.
    #[must_use]
    pub fn ids(&self) -> Vec<WorkerId> {
        self.list.iter().map(|member| member.name.worker).collect()
    }

    /// The member that is this worker.
    #[must_use]
    pub fn get(&self, worker: WorkerId) -> Option<&MemberRecord> {
        self.list.get(*self.places.get(&worker)?)
    }

    /// The members that are these workers.
    #[must_use]
    pub fn names(&self, workers: &[WorkerId]) -> Vec<WorkerName> {
        let named = workers.iter().filter_map(|worker| self.get(*worker));
        named.map(|member| member.name.clone()).collect()
    }

    /// Whether they scale the loss, so that a gradient that is not finite is no wonder.
    #[must_use]
    pub fn scale_loss(&self) -> bool {
        self.list.iter().any(|member| member.engine.scales_loss)
    }

    /// The members as they are told to each other.
    #[must_use]
    pub fn introductions(&self) -> Arc<[Member]> {
        let introduce = |(rank, member): (u32, &MemberRecord)| Member {
            worker: member.name.worker,
            rank: Rank(rank),
            address: member.ring,
        };
        (0..).zip(&self.list).map(introduce).collect()
    }

    /// Checks that a report is of this membership and from one of its members.
    ///
    /// # Errors
    /// What does not fit, outermost first.
    pub fn fence(&self, worker: WorkerId, of: &Membership) -> Result<(), RejectReason> {
        if of.job != self.membership.job {
            Err(RejectReason::Job)
        } else if of.term != self.membership.term {
            Err(RejectReason::Term)
        } else if of.epoch != self.membership.epoch {
            Err(RejectReason::Epoch)
        } else if self.get(worker).is_none() {
            Err(RejectReason::Member)
        } else {
            Ok(())
        }
    }
}
