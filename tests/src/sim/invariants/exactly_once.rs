//! Every slot of every committed step counts exactly once.

use weft_common::ledger::CommitRecord;
use weft_coordinator::engine::RunData;

use super::super::arithmetic::{gradient, sum_digest};
use super::super::disk::Disk;
use super::Facts;

pub(super) fn recorded(facts: &mut Facts, record: &CommitRecord, data: &RunData) {
    let plan = data.planner.step(record.step);
    let step = record.step;
    let planned = plan.slots.iter().map(|slot| (slot.slot, &slot.rows));
    let counted = record.slots.iter().map(|slot| (slot.slot, &slot.rows));
    facts.demand(planned.eq(counted), || {
        format!("exactly once: the slots of step {step} are not those of the plan")
    });
    let Some(state) = facts.state_before(step) else {
        return;
    };
    let gradients = plan.slots.iter().map(|slot| gradient(state, slot));
    let sum = sum_digest(gradients.sum());
    facts.demand(sum == record.gradient_digest, || {
        format!("exactly once: the sum of step {step} is not that of its slots")
    });
}

pub(super) fn end(facts: &mut Facts, disk: &Disk, data: &RunData) {
    let (found, planned) = (disk.ledger.len() as u64, data.total_steps());
    facts.demand(found == planned, || {
        format!("exactly once: {found} of {planned} steps are in the ledger")
    });
}
