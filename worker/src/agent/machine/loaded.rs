//! A loaded job: what the worker's state stands before, and what is under way.

use std::collections::BTreeSet;

use weft_common::id::{LeaseId, Step, WorkerId};
use weft_common::wire::{CheckpointRef, Holding, Membership, Round};

use super::job::Job;
use super::{Action, Machine, Scope, age};
use crate::agent::order::Order;

/// A loaded job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loaded {
    /// The newest membership heard of.
    pub(super) newest: Membership,
    pub(super) standing: Standing,
    /// The epoch that the worker is a member of.
    pub(super) member: Option<Membership>,
    /// Grants whose report is wanted.
    pub(super) leases: BTreeSet<LeaseId>,
    /// The one among them, or reported already, that waits for a verdict.
    pub(super) staged: Option<LeaseId>,
    /// Whether the training thread has the reduced sum of the step in hand.
    pub(super) sum: bool,
    /// Checkpoints that this session asked for.
    pub(super) saving: Vec<CheckpointRef>,
    /// The state that is being copied.
    pub(super) copying: Option<(Membership, WorkerId)>,
    /// Size of adapter and optimizer state.
    pub(super) state_bytes: u64,
}

/// What the worker's state stands before, counting what is ordered as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// This step.
    Before(Step),
    /// The state is being replaced, by so many orders one after another; if all fail, it stays before this step.
    Moving { from: Step, orders: u32 },
}

impl Loaded {
    pub(super) fn new(newest: Membership, holding: &Holding) -> Self {
        let mut loaded = Self {
            newest,
            standing: Standing::Before(holding.next_step),
            member: None,
            leases: BTreeSet::new(),
            staged: None,
            sum: false,
            saving: Vec::new(),
            copying: None,
            state_bytes: 0,
        };
        loaded.stands(holding);
        loaded
    }

    /// The training thread said what is held.
    pub(super) fn stands(&mut self, holding: &Holding) {
        let memory = &holding.engine.memory;
        self.standing = Standing::Before(holding.next_step);
        self.sum = holding.sum.is_some();
        self.state_bytes = memory.adapter_bytes + memory.optimizer_bytes;
    }

    /// An order that replaces the state is given.
    pub(super) fn moves(&mut self) {
        let (from, orders) = match self.standing {
            Standing::Before(step) => (step, 0),
            Standing::Moving { from, orders } => (from, orders),
        };
        let orders = orders + 1;
        self.standing = Standing::Moving { from, orders };
    }

    /// An order that replaces the state is answered. Whether another one is under way still.
    pub(super) fn moved(&mut self) -> bool {
        match &mut self.standing {
            Standing::Moving { orders, .. } if *orders > 1 => {
                *orders -= 1;
                true
            }
            Standing::Moving { from, .. } => {
                self.standing = Standing::Before(*from);
                false
            }
            Standing::Before(_) => false,
        }
    }

    /// The step in hand, unless the state is being replaced.
    pub(super) fn step(&self) -> Option<Step> {
        match self.standing {
            Standing::Before(step) => Some(step),
            Standing::Moving { .. } => None,
        }
    }

    /// The round in hand, for a member.
    pub(super) fn current(&self) -> Option<Round> {
        Some(self.member.as_ref()?.round(self.step()?))
    }

    pub(super) fn hear(&mut self, membership: &Membership) {
        if age(membership) > age(&self.newest) {
            self.newest = membership.clone();
        }
    }

    /// Grants are void, computed or not; what runs straight into the accumulator still gets there.
    pub(super) fn void_leases(&mut self) -> Vec<Action> {
        self.leases.clear();
        self.staged = None;
        vec![Action::Cancel(Scope::Slots), Action::Cancel(Scope::Staged)]
    }

    pub(super) fn stop_copying(&mut self) -> Option<Action> {
        self.copying.take().map(|_| Action::Cancel(Scope::Copy))
    }

    /// Ends what the session asked for, and asks what is held then.
    pub(super) fn end_session(&mut self) -> Vec<Action> {
        self.member = None;
        self.saving.clear();
        let mut actions = vec![Action::Cancel(Scope::Reduce)];
        actions.extend(self.void_leases());
        actions.extend(self.stop_copying());
        actions.push(Action::Train(Order::Settle(self.newest.clone())));
        actions
    }
}

impl Machine {
    /// The loaded job, if `membership` is one of it and of the session's coordinator.
    pub(super) fn loaded(&mut self, membership: &Membership) -> Option<&mut Loaded> {
        let term = self.term();
        match &mut self.job {
            Job::Loaded(loaded)
                if loaded.newest.job == membership.job && term == Some(membership.term) =>
            {
                Some(loaded)
            }
            Job::None | Job::Fetching { .. } | Job::Loading { .. } | Job::Loaded(_) => None,
        }
    }
}
