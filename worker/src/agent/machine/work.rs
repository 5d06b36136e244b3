//! The work of a step: micro-batches, their sum, the update, the checkpoint.

use weft_common::wire::{
    AppliedReport, CheckpointRef, Commit, Event, Lease, LeasedSlot, ReducedReport, Round, Settle,
    SlotDone, TakeCheckpoint, Verdict,
};

use super::loaded::{Loaded, Standing};
use super::{Action, Machine, Scope, age, unexpected};
use crate::agent::order::Order;

impl Machine {
    /// Grants of an older epoch than the present one are as good, as long as they are of the step in hand.
    pub(super) fn lease(&mut self, lease: Lease) -> Vec<Action> {
        let membership = lease.round.membership.clone();
        let accepted = self
            .loaded(&membership)
            .filter(|loaded| loaded.accepts(&lease));
        let Some(loaded) = accepted else {
            return unexpected("lease", &membership);
        };
        for slot in &lease.slots {
            loaded.leases.insert(slot.lease);
            if slot.staged {
                loaded.staged = Some(slot.lease);
            } else {
                loaded.sum = false;
            }
        }
        let (round, step_supervised) = (lease.round, lease.step_supervised);
        let compute = |slot| {
            Action::Train(Order::Compute {
                round: round.clone(),
                step_supervised,
                slot,
            })
        };
        lease.slots.into_iter().map(compute).collect()
    }

    pub(super) fn settle(&mut self, settle: &Settle) -> Vec<Action> {
        let membership = &settle.round.membership;
        let Some(loaded) = self.loaded(membership) else {
            return unexpected("settle", membership);
        };
        if loaded.staged != Some(settle.lease) || loaded.step() != Some(settle.round.step) {
            return unexpected("settle", membership);
        }
        loaded.staged = None;
        match settle.verdict {
            Verdict::Merge => {
                loaded.sum = false;
                vec![Action::Train(Order::Merge {
                    round: settle.round.clone(),
                    lease: settle.lease,
                })]
            }
            Verdict::Discard => {
                loaded.leases.remove(&settle.lease);
                vec![
                    Action::Cancel(Scope::Staged),
                    Action::Train(Order::Discard(settle.lease)),
                ]
            }
        }
    }

    pub(super) fn seal(&mut self, round: Round) -> Vec<Action> {
        let loaded = self.loaded(&round.membership);
        if loaded.and_then(|loaded| loaded.current()).as_ref() != Some(&round) {
            return unexpected("seal", &round.membership);
        }
        vec![Action::Train(Order::Reduce(round))]
    }

    /// A member applies the round in hand. A worker that is none, but came back with the sum of its step, learns so that
    /// the step is durable.
    pub(super) fn commit(&mut self, commit: Commit) -> Vec<Action> {
        let Some(loaded) = self.loaded(&commit.round.membership) else {
            return unexpected("commit", &commit.round.membership);
        };
        let step = commit.round.step;
        let awaited = match &loaded.member {
            Some(_) => loaded.current().as_ref() == Some(&commit.round),
            None => loaded.sum && loaded.step() == Some(step),
        };
        if !awaited {
            return unexpected("commit", &commit.round.membership);
        }
        loaded.standing = Standing::Before(step.next());
        loaded.sum = false;
        loaded.leases.clear();
        loaded.staged = None;
        vec![Action::Train(Order::Apply {
            round: commit.round,
            update: commit.update,
        })]
    }

    pub(super) fn take_checkpoint(&mut self, take: TakeCheckpoint) -> Vec<Action> {
        let asked = take.membership.round(take.checkpoint.next_step);
        match self.loaded(&take.membership) {
            Some(loaded) if loaded.current().as_ref() == Some(&asked) => {
                loaded.saving.push(take.checkpoint.clone());
                vec![Action::Train(Order::Snapshot(take))]
            }
            Some(_) | None => unexpected("take checkpoint", &take.membership),
        }
    }

    /// Reports of grants that were taken back since are of no use to anyone.
    pub(super) fn slot_done(&mut self, done: SlotDone) -> Vec<Action> {
        let wanted = self
            .loaded(&done.round.membership)
            .is_some_and(|loaded| loaded.leases.remove(&done.lease));
        if !wanted {
            return Vec::new();
        }
        self.send(Event::SlotDone(done))
    }

    pub(super) fn reduced(&mut self, reduced: ReducedReport) -> Vec<Action> {
        match self.loaded(&reduced.round.membership) {
            Some(loaded) if loaded.current().as_ref() == Some(&reduced.round) => loaded.sum = true,
            Some(_) | None => return Vec::new(),
        }
        self.send(Event::Reduced(reduced))
    }

    pub(super) fn applied(&mut self, applied: AppliedReport) -> Vec<Action> {
        if self.loaded(&applied.round.membership).is_none() {
            return Vec::new();
        }
        self.send(Event::Applied(applied))
    }

    /// A checkpoint was written or not; only the session that asked for it is told.
    pub(super) fn saved(&mut self, checkpoint: &CheckpointRef, event: Event) -> Vec<Action> {
        let membership = match &event {
            Event::CheckpointWritten(written) => written.membership.clone(),
            Event::CheckpointFailed(failed) => failed.membership.clone(),
            Event::Heartbeat(_)
            | Event::Prepared(_)
            | Event::SyncFailed(_)
            | Event::SlotDone(_)
            | Event::Reduced(_)
            | Event::Applied(_)
            | Event::Failed(_)
            | Event::Leave { .. } => return Vec::new(),
        };
        let Some(loaded) = self.loaded(&membership) else {
            return Vec::new();
        };
        let asked = loaded.saving.iter().position(|saving| saving == checkpoint);
        match asked {
            Some(index) => loaded.saving.swap_remove(index),
            None => return Vec::new(),
        };
        self.send(event)
    }
}

impl Loaded {
    /// Whether the grant is of the step in hand, and does not stage a second micro-batch beside another.
    fn accepts(&self, lease: &Lease) -> bool {
        let Some(current) = self.current() else {
            return false;
        };
        let staged = |slot: &&LeasedSlot| slot.staged;
        let staging =
            lease.slots.iter().filter(staged).count() + usize::from(self.staged.is_some());
        let no_more_than_one = staging <= 1 || !lease.slots.iter().any(|slot| slot.staged);
        lease.round.step == current.step
            && age(&lease.round.membership) <= age(&current.membership)
            && no_more_than_one
    }
}
