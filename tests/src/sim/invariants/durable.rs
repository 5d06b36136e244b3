//! No worker applies a step that is not in the ledger.

use weft_common::id::Step;

use super::super::disk::Disk;
use super::super::trainer::Loaded;
use super::Facts;

pub(super) fn applied(facts: &mut Facts, process: usize, loaded: &Loaded, disk: &Disk) {
    let step = Step(loaded.next_step.0.saturating_sub(1));
    let mut records = disk.ledger.iter().chain(&disk.replaced);
    facts.demand(records.any(|record| record.step == step), || {
        format!("durable: worker {process} applied step {step}, which is in no ledger")
    });
}
