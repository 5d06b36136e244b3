//! Terms and epochs only grow: as they are formed, as each worker hears of them, and in the ledger.

use weft_common::id::Term;
use weft_common::ledger::CommitRecord;
use weft_common::wire::Command;
use weft_coordinator::engine::EpochReport;

use super::super::disk::Disk;
use super::Facts;

pub(super) fn formed(facts: &mut Facts, term: Term, epoch: &EpochReport) {
    let now = epoch.epoch;
    let before = facts.newest.insert(term, now);
    facts.demand(before.is_none_or(|before| before < now), || {
        format!("monotone: in term {term}, {now:?} was formed after {before:?}")
    });
}

pub(super) fn heard(facts: &mut Facts, process: usize, command: &Command) {
    let Command::FormEpoch(form) = command else {
        return;
    };
    let now = (form.membership.term, form.membership.epoch);
    let before = facts.told.insert(process, now);
    facts.demand(before.is_none_or(|before| before < now), || {
        format!("monotone: worker {process} heard of {now:?} after {before:?}")
    });
}

pub(super) fn recorded(facts: &mut Facts, record: &CommitRecord, disk: &Disk) {
    let of = |record: &CommitRecord| (record.term, record.epoch);
    let before = disk.ledger.last().map(of);
    let now = of(record);
    facts.demand(before.is_none_or(|before| before <= now), || {
        format!("monotone: {now:?} is recorded after {before:?}")
    });
}
