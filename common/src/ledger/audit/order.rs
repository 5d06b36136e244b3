//! Whether the records follow from one another. That steps have no gap is known from reading them.

use super::super::read::Ledger;
use super::Findings;
use crate::id::SlotId;

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    let records = &ledger.records;
    if let Some(first) = records.first().filter(|first| first.step.0 > 0) {
        let what = format!(
            "the ledger begins with step {}: the steps before it are not proven",
            first.step.next()
        );
        findings.at(ledger.place(0), what);
    }
    for (index, record) in records.iter().enumerate() {
        let slots = record.slots.iter().map(|slot| slot.slot);
        if !slots.eq((0..).map(SlotId).take(record.slots.len())) {
            let what = format!("the slots of step {} are not 0, 1, …", record.step.next());
            findings.at(ledger.place(index), what);
        }
    }
    for (index, pair) in records.windows(2).enumerate() {
        let [before, record] = pair else { continue };
        let place = || ledger.place(index + 1);
        let (step, earlier) = (record.step.next(), before.step.next());
        if (record.term, record.epoch) < (before.term, before.epoch) {
            let what = format!(
                "step {step} was committed in term {} by membership {}, but step {earlier} in term {} by membership {}, \
                 which came later",
                record.term, record.epoch, before.term, before.epoch
            );
            findings.at(place(), what);
        }
        // The state holds the number of its step, so that it is another one even after a skipped update.
        if record.state_digest == before.state_digest {
            let what = format!("step {step} starts from the same state as step {earlier}");
            findings.at(place(), what);
        }
    }
}
