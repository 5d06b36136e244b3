//! One step on its way to its commit: leasing, then reducing, then waiting for the ledger. It outlives memberships.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::{SlotId, Step, WorkerId};
use weft_common::ledger::CommitRecord;
use weft_common::plan::StepPlan;
use weft_common::time::Timestamp;
use weft_common::wire::Update;

use super::action::StepTiming;
use super::lease::LeaseBook;
use super::sums::Sums;

/// One step on its way to its commit.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRound {
    /// What it consists of.
    pub plan: Arc<StepPlan>,
    /// Who computes what.
    pub book: LeaseBook,
    /// How far it is.
    pub phase: Phase,
    /// When it began.
    pub started: Timestamp,
    /// When all slots were in, the last time.
    pub sealed: Timestamp,
    /// What each worker spent computing, by its own account.
    pub computing: BTreeMap<WorkerId, Duration>,
    /// What each member spent reducing.
    pub reducing: BTreeMap<WorkerId, Duration>,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Slots are being computed.
    Leasing,
    /// All slots are accepted; members sum.
    Reducing {
        /// What they say of the sum.
        sums: Sums,
    },
    /// The sum is agreed on; its record is being made durable.
    Committing {
        /// The record.
        record: Box<CommitRecord>,
        /// What happens to the sum.
        update: Update,
        /// Since when.
        since: Timestamp,
    },
}

impl StepRound {
    /// The step's beginning: everything in the pool.
    #[must_use]
    pub fn new(plan: StepPlan, now: Timestamp) -> Self {
        let plan = Arc::new(plan);
        Self {
            phase: Phase::Leasing,
            book: LeaseBook::new(plan.clone()),
            plan,
            started: now,
            sealed: now,
            computing: BTreeMap::new(),
            reducing: BTreeMap::new(),
        }
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> Step {
        self.plan.step
    }

    /// Whether slots are being computed.
    #[must_use]
    pub fn is_leasing(&self) -> bool {
        matches!(self.phase, Phase::Leasing)
    }

    /// Whether the sum is agreed on, so that no loss can change the step any more.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        matches!(self.phase, Phase::Committing { .. })
    }

    /// Adds to what a worker spent computing.
    pub fn computed(&mut self, worker: WorkerId, elapsed: Duration) {
        *self.computing.entry(worker).or_default() += elapsed;
    }

    /// Everything is accepted: members sum.
    pub(super) fn seal(&mut self, now: Timestamp) {
        self.sealed = now;
        self.phase = Phase::Reducing {
            sums: Sums::default(),
        };
    }

    /// Back to computing, after a membership in which the sum could not be completed.
    pub(super) fn unseal(&mut self) {
        self.phase = Phase::Leasing;
        self.reducing.clear();
    }

    /// The last slot that a worker was given.
    #[must_use]
    pub fn last_slot_of(&self, worker: WorkerId) -> Option<SlotId> {
        self.book.last_slot_of(worker)
    }

    /// Where the time went, at the moment of the commit.
    #[must_use]
    pub fn timing(&self, ledger_since: Timestamp, now: Timestamp) -> StepTiming {
        let busy = |(worker, computing): (&WorkerId, &Duration)| {
            *computing + self.reducing.get(worker).copied().unwrap_or_default()
        };
        let all = self
            .reducing
            .iter()
            .map(|(worker, reducing)| self.computing.get_key_value(worker).map_or(*reducing, busy));
        let busiest = all.max().unwrap_or_default();
        let total = now.since(self.started);
        let reduce = self.reducing.values().max().copied().unwrap_or_default();
        StepTiming {
            total,
            compute: self.computing.values().max().copied().unwrap_or_default(),
            reduce,
            commit: now.since(self.sealed).saturating_sub(reduce),
            ledger: now.since(ledger_since),
            control: total.saturating_sub(busiest),
        }
    }
}
