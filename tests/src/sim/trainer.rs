//! A worker's training thread: orders one after another, with the books that the real one keeps.

use std::collections::VecDeque;

use weft_common::id::{Digest, LeaseId, Step};
use weft_common::plan::SlotPlan;
use weft_common::wire::{
    AppliedReport, CheckpointRef, EngineInfo, Event, FormEpoch, HeldSlot, HeldSum, Holding,
    Membership, MemoryReport, ReducedReport, Round, SlotDone, SlotOutcome, SumHealth,
};
use weft_worker::agent::machine::Scope;
use weft_worker::agent::{Answer, Order, StateCopy};

use super::arithmetic::{INITIAL, digest, gradient, sum_digest, update};
use super::faults::Flip;

/// Bits that are lost; another one in each place, so that no two mistakes come to none.
const REPORT_BIT: u32 = 0;
/// See `REPORT_BIT`.
const PART_BIT: u32 = 20;
/// See `REPORT_BIT`.
pub(super) const SUM_BIT: u32 = 40;

/// What was cancelled so far, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cancels {
    slots: u32,
    staged: u32,
    reduce: u32,
    job: u32,
}

/// A job in hand.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) newest: Membership,
    pub(super) next_step: Step,
    pub(super) state: u64,
    accumulator: i64,
    slots: Vec<HeldSlot>,
    staged: Option<(LeaseId, HeldSlot, i64)>,
    sum: Option<(HeldSum, i64)>,
    epoch: Option<FormEpoch>,
}

/// The thread.
#[derive(Debug, Default)]
pub(super) struct Trainer {
    queue: VecDeque<(Order, Cancels)>,
    cancels: Cancels,
    pub(super) loaded: Option<Loaded>,
    /// What it is busy with.
    pub(super) running: Option<(Order, Cancels)>,
    /// Grows with everything it begins, so that news of what it began before can be told apart.
    pub(super) turn: u64,
    /// A bit of this is about to be lost.
    pub(super) flips: Option<Flip>,
    /// It may be lost in the step in hand.
    pub(super) may_flip: bool,
    /// Bits were lost.
    pub(super) flipped: bool,
    /// It adds its next slot twice, and reports it so.
    pub(super) counts_twice: bool,
}

impl Trainer {
    pub(super) fn order(&mut self, order: Order) {
        self.queue.push_back((order, self.cancels));
    }

    /// Cancels; true where that ends what is running.
    pub(super) fn cancel(&mut self, scope: Scope) -> bool {
        let counts = &mut self.cancels;
        match scope {
            Scope::Slots => counts.slots += 1,
            Scope::Staged => counts.staged += 1,
            Scope::Reduce => counts.reduce += 1,
            Scope::Copy => {}
            Scope::Job => {
                counts.slots += 1;
                counts.staged += 1;
                counts.reduce += 1;
                counts.job += 1;
            }
        }
        // A running micro-batch that is not staged goes on to its end.
        let ends = self
            .running
            .as_ref()
            .is_some_and(|(order, since)| match order {
                Order::Compute { slot, .. } => slot.staged && since.staged != self.cancels.staged,
                Order::Reduce(_) => since.reduce != self.cancels.reduce,
                Order::Load(_)
                | Order::Describe(_)
                | Order::Settle(_)
                | Order::Restore(_)
                | Order::Adopt { .. }
                | Order::Join(_)
                | Order::Merge { .. }
                | Order::Discard(_)
                | Order::Apply { .. }
                | Order::Snapshot(_)
                | Order::Unload => false,
            });
        if ends {
            self.running = None;
            self.turn += 1;
        }
        ends
    }

    fn is_cancelled(&self, order: &Order, since: Cancels) -> bool {
        let now = self.cancels;
        let kind = match order {
            Order::Unload | Order::Settle(_) => return false,
            Order::Compute { slot, .. } if slot.staged => since.staged != now.staged,
            Order::Compute { .. } => since.slots != now.slots,
            Order::Reduce(_) => since.reduce != now.reduce,
            Order::Load(_)
            | Order::Describe(_)
            | Order::Restore(_)
            | Order::Adopt { .. }
            | Order::Join(_)
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Apply { .. }
            | Order::Snapshot(_) => false,
        };
        kind || since.job != now.job
    }

    /// Takes the next order that was not cancelled, where it is idle.
    pub(super) fn begin(&mut self) -> Option<Order> {
        if self.running.is_some() {
            return None;
        }
        while let Some((order, since)) = self.queue.pop_front() {
            if !self.is_cancelled(&order, since) {
                self.turn += 1;
                self.running = Some((order.clone(), since));
                return Some(order);
            }
        }
        None
    }

    /// Ends what it is busy with. `sum` is what a reduction came to; `restored` what a checkpoint or copy holds.
    pub(super) fn finish(&mut self, given: Given, ports: (u16, u16)) -> Option<Answer> {
        let (order, since) = self.running.take()?;
        self.turn += 1;
        let answer = self.perform(order, given, ports);
        answer
            .filter(|answer| matches!(answer, Answer::Settled(_)) || since.job == self.cancels.job)
    }

    fn perform(&mut self, order: Order, given: Given, ports: (u16, u16)) -> Option<Answer> {
        match order {
            Order::Load(loading) => {
                let membership = loading.prepare.membership.clone();
                let (state, step) = given.state.unwrap_or((INITIAL, Step(0)));
                self.loaded = Some(Loaded::new(membership.clone(), state, step));
                self.describe(membership, ports)
            }
            Order::Describe(membership) => self.describe(membership, ports),
            Order::Settle(membership) => {
                if let Some(loaded) = &mut self.loaded {
                    loaded.staged = None;
                    loaded.epoch = None;
                }
                let held = self.loaded.as_mut().map(|l| l.holding(membership, ports));
                Some(Answer::Settled(held))
            }
            Order::Restore(restore) => {
                let (state, step) = given.state.unwrap_or((INITIAL, Step(0)));
                self.loaded.as_mut()?.move_to(state, step);
                self.describe(restore.membership, ports)
            }
            Order::Adopt { membership, copy } => {
                let (state, step) = unpack(&copy)?;
                self.loaded.as_mut()?.move_to(state, step);
                self.describe(membership, ports)
            }
            Order::Join(epoch) => {
                self.loaded.as_mut()?.join(epoch);
                None
            }
            Order::Compute { round, slot, .. } => {
                let twice = std::mem::take(&mut self.counts_twice);
                let flips = self.flips(Flip::Report);
                let loaded = self.loaded.as_mut()?;
                let value = gradient(loaded.state, &slot.plan) * (1 + i64::from(twice));
                let said = value ^ (i64::from(flips) << REPORT_BIT);
                let held = held(&slot.plan, said);
                if slot.staged {
                    loaded.staged = Some((slot.lease, held, value));
                } else {
                    loaded.add(held, value);
                }
                Some(Answer::Done(Event::SlotDone(SlotDone {
                    round,
                    slot: slot.plan.slot,
                    lease: slot.lease,
                    outcome: held.outcome,
                    elapsed: given.elapsed,
                })))
            }
            Order::Merge { lease, .. } => {
                self.loaded.as_mut()?.merge(lease);
                None
            }
            Order::Discard(lease) => {
                let loaded = self.loaded.as_mut()?;
                loaded.staged.take_if(|(staged, ..)| *staged == lease);
                None
            }
            Order::Reduce(round) => self
                .loaded
                .as_mut()?
                .reduced(round, given.sum?, given.elapsed),
            Order::Apply { round, .. } => self.loaded.as_mut()?.apply(round),
            Order::Snapshot(_) => None,
            Order::Unload => {
                self.loaded = None;
                None
            }
        }
    }

    /// Whether a bit is lost here and now.
    pub(super) fn flips(&mut self, at: Flip) -> bool {
        let flips = self.flips.take_if(|flip| self.may_flip && *flip == at);
        let flips = flips.is_some();
        self.flipped |= flips;
        flips
    }

    fn describe(&mut self, membership: Membership, ports: (u16, u16)) -> Option<Answer> {
        let holding = self.loaded.as_mut()?.holding(membership, ports);
        Some(Answer::Done(Event::Prepared(holding)))
    }
}

/// What the world adds to an order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    /// The sum over all members.
    pub(super) sum: Option<i64>,
    /// The state that a checkpoint holds.
    pub(super) state: Option<(u64, Step)>,
    /// How long it took.
    pub(super) elapsed: std::time::Duration,
}

impl Loaded {
    fn new(newest: Membership, state: u64, next_step: Step) -> Self {
        Self {
            newest,
            next_step,
            state,
            accumulator: 0,
            slots: Vec::new(),
            staged: None,
            sum: None,
            epoch: None,
        }
    }

    fn hear(&mut self, membership: &Membership) {
        let age = |membership: &Membership| (membership.term, membership.epoch);
        if age(membership) > age(&self.newest) {
            self.newest = membership.clone();
        }
    }

    fn clear(&mut self) {
        self.accumulator = 0;
        self.slots.clear();
        self.staged = None;
        self.sum = None;
    }

    fn move_to(&mut self, state: u64, step: Step) {
        self.clear();
        self.epoch = None;
        self.state = state;
        self.next_step = step;
    }

    fn join(&mut self, epoch: FormEpoch) {
        self.hear(&epoch.membership);
        if !epoch.keep {
            self.clear();
        }
        self.epoch = Some(epoch);
    }

    /// The epoch whose members this worker sums with.
    pub(super) fn epoch(&self) -> Option<&FormEpoch> {
        self.epoch.as_ref()
    }

    /// Its part of a sum.
    pub(super) fn part(&self) -> i64 {
        self.accumulator
    }

    /// A bit of its part is lost.
    pub(super) fn flip(&mut self) {
        self.accumulator ^= 1 << PART_BIT;
    }

    fn add(&mut self, held: HeldSlot, value: i64) {
        self.accumulator += value;
        self.slots.push(held);
        self.sum = None;
    }

    fn merge(&mut self, lease: LeaseId) {
        if let Some((_, held, value)) = self.staged.take_if(|(staged, ..)| *staged == lease) {
            self.add(held, value);
        }
    }

    fn reduced(&mut self, round: Round, sum: i64, elapsed: std::time::Duration) -> Option<Answer> {
        let held = HeldSum {
            digest: sum_digest(sum),
            health: SumHealth::Finite,
        };
        self.sum = Some((held, sum));
        Some(Answer::Done(Event::Reduced(ReducedReport {
            round,
            digest: held.digest,
            part: sum_digest(self.accumulator),
            health: held.health,
            elapsed,
        })))
    }

    fn apply(&mut self, round: Round) -> Option<Answer> {
        let (_, sum) = self.sum?;
        self.state = update(self.state, sum);
        self.next_step = round.step.next();
        self.clear();
        Some(Answer::Done(Event::Applied(AppliedReport {
            round,
            grad_norm: 1.0,
            learning_rate: 1e-4,
            state_digest: digest(self.state),
            elapsed: std::time::Duration::ZERO,
        })))
    }

    fn holding(&mut self, membership: Membership, (ring_port, peer_port): (u16, u16)) -> Holding {
        self.hear(&membership);
        Holding {
            membership,
            next_step: self.next_step,
            engine: EngineInfo {
                device: "sim".into(),
                adapter_params: 1,
                base_params: 1,
                model_digest: Digest::of(b"model"),
                state_digest: digest(self.state),
                scales_loss: false,
                memory: MemoryReport::default(),
            },
            ring_port,
            peer_port,
            slots: self.slots.clone(),
            sum: self.sum.map(|(held, _)| held),
        }
    }
}

/// What a worker says of a micro-batch.
fn held(plan: &SlotPlan, gradient: i64) -> HeldSlot {
    HeldSlot {
        slot: plan.slot,
        outcome: SlotOutcome {
            loss_sum: plan.supervised_tokens as f64,
            supervised: plan.supervised_tokens,
            tokens: plan.tokens,
            digest: sum_digest(gradient),
        },
    }
}

/// A state as the name of a folder.
pub(super) fn pack(state: u64, step: Step) -> StateCopy {
    let arrays = state.to_le_bytes();
    StateCopy::new(step.0.to_le_bytes().to_vec(), arrays.to_vec())
}

fn unpack(copy: &StateCopy) -> Option<(u64, Step)> {
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    Some((number(copy.arrays())?, Step(number(copy.header())?)))
}

/// The state that a checkpoint reference stands for.
pub(super) fn step_of(checkpoint: Option<&CheckpointRef>) -> Option<Step> {
    checkpoint.map(|checkpoint| checkpoint.next_step)
}
