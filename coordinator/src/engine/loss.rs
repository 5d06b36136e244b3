//! The one decision on a member that is gone.

use weft_common::id::{SlotId, Step, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::CheckpointRef;

use super::context::Context;
use super::ending;
use super::job::JobState;
use super::members::Members;
use super::outcome::{FailReason, LossCause, WorkerName};
use super::terms::JobTerms;

/// A worker that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Which.
    pub worker: WorkerId,
    /// As people find it.
    pub name: WorkerName,
    /// How it was noticed.
    pub cause: LossCause,
}

/// A member's word that it cannot reach a peer. Usually that peer is dead and its own end, noticed a moment later, is
/// the better news; only where nobody turns out to be gone does the word itself count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    since: Timestamp,
    reason: FailReason,
}

impl Suspicion {
    /// The word, from now on.
    #[must_use]
    pub fn new(reason: FailReason, now: Timestamp) -> Self {
        Self { since: now, reason }
    }

    /// What it comes to, once every dead member would have been noticed.
    #[must_use]
    pub fn ripe(&self, cx: &Context<'_>) -> Option<FailReason> {
        let waited = cx.now.since(self.since);
        (waited >= cx.limits.dead_after * 2).then(|| self.reason.clone())
    }
}

/// What the job was doing when a member was lost.
pub(super) struct AtLoss<'a> {
    /// The members, the lost one included.
    pub members: &'a Members,
    /// The step that was being computed.
    pub step: Step,
    /// The last slot that the lost member was given.
    pub slot: Option<SlotId>,
    /// The newest complete checkpoint.
    pub checkpoint: Option<CheckpointRef>,
}

/// Decides what follows from the loss of a member of a formed epoch: the job ends, with the newest complete checkpoint
/// as it was.
pub(super) fn member_lost(
    terms: &JobTerms,
    loss: Loss,
    at: AtLoss<'_>,
    cx: &mut Context<'_>,
) -> JobState {
    let member = at.members.get(loss.worker);
    let name = member.map_or(loss.name, |member| member.name.clone());
    let reason = FailReason::WorkerLost {
        worker: Box::new(name),
        step: at.step,
        slot: at.slot,
        cause: loss.cause,
    };
    ending::fail(terms, reason, at.checkpoint, cx)
}
