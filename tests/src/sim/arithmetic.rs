//! Arithmetic in which every slot matters for ever. As in a real gradient, sums of integers do not wrap.

use weft_common::id::{Digest, Step};
use weft_common::plan::{SlotPlan, StepPlan, StepPlanner};
use weft_common::sum_digest::SumDigest;

use super::rng::mix;

/// The state before the first step.
pub(super) const INITIAL: u64 = 0x5EED;

/// The gradient of a slot, which depends on the state as a real one does.
pub(super) fn gradient(state: u64, slot: &SlotPlan) -> i64 {
    let rows = slot.rows.iter();
    let mixed = rows.fold(mix(state), |sum, row| mix(sum ^ u64::from(*row)));
    mixed.cast_signed() >> 14
}

/// The state after an update.
pub(super) fn update(state: u64, sum: i64) -> u64 {
    mix(state.rotate_left(17) ^ sum.cast_unsigned())
}

/// What an undisturbed step makes of a state.
fn step(state: u64, plan: &StepPlan) -> u64 {
    let gradients = plan.slots.iter().map(|slot| gradient(state, slot));
    update(state, gradients.sum())
}

/// The states of an undisturbed run: before each step, and after the last.
pub(super) fn trajectory(planner: &StepPlanner) -> Vec<u64> {
    let mut states = vec![INITIAL];
    for number in 0..planner.total_steps() {
        let last = states[states.len() - 1];
        states.push(step(last, &planner.step(Step(number))));
    }
    states
}

/// The digest of a gradient or of a sum of gradients.
pub(super) fn sum_digest(value: i64) -> Digest {
    SumDigest::of(&[value], 0).into()
}

/// The digest of a state.
pub(super) fn digest(number: u64) -> Digest {
    let mut bytes = [0; 32];
    for (index, part) in bytes.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mix(number.wrapping_add(index as u64)).to_le_bytes());
    }
    Digest(bytes)
}
