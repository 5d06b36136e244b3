//! One step on its way to its commit: leasing, then reducing, then waiting for the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::{Step, WorkerId};
use weft_common::ledger::{CommitRecord, SlotRecord};
use weft_common::plan::StepPlan;
use weft_common::time::Timestamp;
use weft_common::wire::{SumHealth, Update};

use super::action::{AcceptedSlot, StepTiming};
use super::ballot::Ballot;
use super::lease::LeaseBook;

/// One step on its way to its commit.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRound {
    /// What it consists of.
    pub plan: Arc<StepPlan>,
    /// How far it is.
    pub phase: Phase,
    /// When its first slots were granted.
    pub started: Timestamp,
    /// What each member spent computing, by its own account.
    pub computing: BTreeMap<WorkerId, Duration>,
    /// What each member spent reducing.
    pub reducing: BTreeMap<WorkerId, Duration>,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Slots are being computed.
    Leasing(LeaseBook),
    /// All slots are accepted; members sum.
    Reducing {
        /// What counts.
        accepted: Vec<AcceptedSlot>,
        /// Digests of the sum.
        ballot: Ballot,
        /// What the sum's reserved elements say, by the last report.
        health: SumHealth,
    },
    /// The sum is agreed on; its record is being made durable.
    Committing {
        /// The record.
        record: CommitRecord,
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
            phase: Phase::Leasing(LeaseBook::new(plan.clone())),
            plan,
            started: now,
            computing: BTreeMap::new(),
            reducing: BTreeMap::new(),
        }
    }

    /// Adds to what a member spent computing.
    pub fn computed(&mut self, worker: WorkerId, elapsed: Duration) {
        *self.computing.entry(worker).or_default() += elapsed;
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> Step {
        self.plan.step
    }

    /// Takes the accepted slots out of the phase that held them, when it is left.
    pub(super) fn take_accepted(&mut self) -> Vec<AcceptedSlot> {
        match &mut self.phase {
            Phase::Leasing(book) => book.take_accepted(),
            Phase::Reducing { accepted, .. } => std::mem::take(accepted),
            Phase::Committing { .. } => Vec::new(),
        }
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
        StepTiming {
            total,
            compute: self.computing.values().max().copied().unwrap_or_default(),
            reduce: self.reducing.values().max().copied().unwrap_or_default(),
            ledger: now.since(ledger_since),
            control: total.saturating_sub(busiest),
        }
    }
}

/// Mean loss over supervised tokens; slots are added in slot order, so that the figure does not depend on who computed
/// which.
#[must_use]
pub(super) fn mean_loss(slots: &[SlotRecord]) -> f64 {
    let loss_sum: f64 = slots.iter().map(|slot| slot.loss_sum).sum();
    let supervised: u64 = slots.iter().map(|slot| slot.supervised_tokens).sum();
    loss_sum / supervised.max(1) as f64
}
