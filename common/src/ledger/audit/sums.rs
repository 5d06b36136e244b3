//! Whether the digests of a step's slots come to that of its gradient, and whether the update is what such a sum asks for.

use super::super::read::Ledger;
use super::super::record::{CommitRecord, Update};
use super::Findings;
use crate::id::Digest;
use crate::sum_digest::SumDigest;
use crate::wire::SumHealth;

/// How many steps have the sum of their slots.
pub(super) fn check(ledger: &Ledger, findings: &mut Findings) -> u64 {
    let mut proven = 0;
    for (index, record) in ledger.records.iter().enumerate() {
        match mistake(record) {
            None => proven += 1,
            Some(what) => findings.at(ledger.place(index), what),
        }
    }
    proven
}

fn mistake(record: &CommitRecord) -> Option<String> {
    let step = record.step.next();
    let slots = record.slots.iter().map(|slot| SumDigest::from(slot.digest));
    let sum: SumDigest = slots.sum();
    if Digest::from(sum) != record.gradient_digest {
        return Some(format!(
            "the digests of the {} slots of step {step} add up to {}, but its gradient has {}: one of them was changed",
            record.slots.len(),
            Digest::from(sum),
            record.gradient_digest
        ));
    }
    match (record.update, sum.flags().health()) {
        (Update::Apply, SumHealth::Finite)
        | (Update::Skip, SumHealth::NonFinite | SumHealth::Overflow) => None,
        (Update::Apply, SumHealth::NonFinite | SumHealth::Overflow) => Some(format!(
            "step {step} was applied, but by the digests of its slots its gradient is not finite"
        )),
        (Update::Skip, SumHealth::Finite) => Some(format!(
            "step {step} was skipped, but by the digests of its slots its gradient is finite"
        )),
    }
}
