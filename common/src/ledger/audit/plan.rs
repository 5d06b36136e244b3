//! Whether what was committed is what recipe and dataset ask for.

use super::super::read::Ledger;
use super::super::record::{CommitRecord, SlotRecord};
use super::{Findings, Planned};
use crate::plan::{SlotPlan, StepPlan};

pub(super) fn check(ledger: &Ledger, planned: &Planned<'_>, findings: &mut Findings) {
    let steps = planned.planner.total_steps();
    for (index, record) in ledger.records.iter().enumerate() {
        let mut note = |what: String| findings.at(ledger.place(index), what);
        let step = record.step.next();
        if record.step.0 >= steps {
            note(format!(
                "step {step} was committed, but the plan ends with step {steps}"
            ));
            continue;
        }
        step_as_planned(record, &planned.planner.step(record.step), &mut note);
        let rate = planned.schedule.at(record.step);
        if record.learning_rate.to_bits() != rate.to_bits() {
            let found = record.learning_rate;
            note(format!(
                "step {step} has learning rate {found}, planned is {rate}"
            ));
        }
    }
}

fn step_as_planned(record: &CommitRecord, plan: &StepPlan, note: &mut impl FnMut(String)) {
    let step = record.step.next();
    if record.data_epoch != plan.data_epoch {
        let (found, planned) = (record.data_epoch, plan.data_epoch);
        note(format!(
            "step {step} is of data epoch {found}, planned is {planned}"
        ));
    }
    if record.slots.len() != plan.slots.len() {
        let (found, planned) = (record.slots.len(), plan.slots.len());
        note(format!(
            "step {step} has {found} slots, planned are {planned}"
        ));
    }
    for (slot, plan) in record.slots.iter().zip(&plan.slots) {
        if let Some((what, found, planned)) = difference(slot, plan) {
            note(format!(
                "slot {} of step {step} has {what} {found}, planned is {planned}",
                plan.slot
            ));
        }
    }
}

/// The first thing in which a slot is not the planned one: what, as it is, as planned.
fn difference(slot: &SlotRecord, plan: &SlotPlan) -> Option<(&'static str, String, String)> {
    let numbers = [
        ("number", u64::from(slot.slot.0), u64::from(plan.slot.0)),
        ("tokens", slot.tokens, plan.tokens),
        (
            "supervised tokens",
            slot.supervised_tokens,
            plan.supervised_tokens,
        ),
    ];
    if slot.rows != plan.rows {
        let (found, planned) = (format!("{:?}", slot.rows), format!("{:?}", plan.rows));
        return Some(("rows", found, planned));
    }
    let other = numbers
        .into_iter()
        .find(|(_, found, planned)| found != planned);
    other.map(|(what, found, planned)| (what, found.to_string(), planned.to_string()))
}
