//! Each step is committed once: the ledger has no gap, and nothing twice.

use weft_common::id::Step;
use weft_common::ledger::CommitRecord;

use super::super::disk::Disk;
use super::Facts;

pub(super) fn recorded(facts: &mut Facts, record: &CommitRecord, disk: &Disk) {
    let (step, next) = (record.step, Step(disk.ledger.len() as u64));
    facts.demand(step == next, || {
        format!("one commit: step {step} is recorded where step {next} must follow")
    });
}
