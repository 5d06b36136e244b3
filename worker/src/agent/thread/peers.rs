//! The members of an epoch, connected when they first have something to sum.

use std::time::Duration;

use weft_common::id::{Rank, WorkerId};
use weft_common::wire::{FormEpoch, Membership};

use super::failure::internal;
use crate::agent::EngineError;
use crate::collective::nccl::{self, Deadlines};
use crate::collective::{
    Cancel, Collective, CollectiveError, GpuLink, Local, Ring, RingKey, RingListener, RingPlan,
};

/// How long members may take to find each other: all are told to sum at the same time.
const FORM_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may stand still inside an all-reduce. A micro-batch is never under way then.
const HOP_WITHIN: Duration = Duration::from_secs(10);

/// An epoch's members.
pub(super) struct Peers {
    epoch: FormEpoch,
    rank: Rank,
    collective: Option<Box<dyn Collective>>,
}

impl Peers {
    /// The members of `epoch`, of whom `worker` must be one.
    pub(super) fn of(epoch: FormEpoch, worker: WorkerId) -> Result<Self, EngineError> {
        let member = epoch.members.iter().find(|member| member.worker == worker);
        let rank = member.map(|member| member.rank).ok_or_else(|| {
            internal(format!(
                "worker {worker} is no member of {}",
                epoch.membership
            ))
        })?;
        Ok(Self {
            epoch,
            rank,
            collective: None,
        })
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.epoch.membership
    }

    /// The member of a rank.
    pub(super) fn member(&self, rank: Rank) -> Option<WorkerId> {
        let member = self.epoch.members.get(rank.0 as usize);
        member.map(|member| member.worker)
    }

    /// The connected members; `gpu` is what this one has of GPUs.
    pub(super) fn connect(
        &mut self,
        listener: &RingListener,
        gpu: Option<&GpuLink>,
        cancel: &Cancel,
    ) -> Result<&mut dyn Collective, CollectiveError> {
        let collective = match self.collective.take() {
            Some(collective) => collective,
            None if self.epoch.members.len() == 1 => Box::new(Local),
            None => {
                let ring = Ring::form(listener, &self.plan(), cancel)?;
                nccl::form(ring, gpu, Deadlines::default(), cancel)?
            }
        };
        Ok(&mut **self.collective.insert(collective))
    }

    /// Hangs up, so that the others notice.
    pub(super) fn disconnect(&mut self) {
        self.collective = None;
    }

    fn plan(&self) -> RingPlan {
        let Membership { job, term, epoch } = self.epoch.membership.clone();
        let members = &self.epoch.members;
        RingPlan {
            key: RingKey { job, term, epoch },
            members: members.iter().map(|member| member.address).collect(),
            rank: self.rank,
            form_within: FORM_WITHIN,
            hop_within: HOP_WITHIN,
        }
    }
}
