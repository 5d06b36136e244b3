//! No two members are in different states before the same step: each state is that of an undisturbed run.

use weft_common::id::Step;
use weft_common::wire::TakeCheckpoint;
use weft_coordinator::engine::{RunData, StepReport};

use super::super::arithmetic::digest;
use super::super::disk::Disk;
use super::super::trainer::Loaded;
use super::Facts;

pub(super) fn applied(facts: &mut Facts, process: usize, loaded: &Loaded) {
    let expected = facts.state_before(loaded.next_step);
    let (step, state) = (loaded.next_step, loaded.state);
    facts.demand(expected == Some(state), || {
        format!("agreement: worker {process} is in another state before step {step} than an undisturbed run")
    });
}

pub(super) fn snapshot(facts: &mut Facts, loaded: &Loaded, take: &TakeCheckpoint) {
    let (step, asked) = (loaded.next_step, take.checkpoint.next_step);
    facts.demand(step == asked, || {
        format!("agreement: a checkpoint before step {asked} holds the state before step {step}")
    });
}

pub(super) fn told(facts: &mut Facts, report: &StepReport) {
    let expected = facts.state_before(report.step.next()).map(digest);
    let (step, found) = (report.step, report.state_digest);
    facts.demand(expected == Some(found), || {
        format!("agreement: people are told of another state after step {step}")
    });
}

pub(super) fn end(facts: &mut Facts, disk: &Disk, data: &RunData) {
    let last = Step(data.total_steps());
    let saved = disk.checkpoints.get(&last).copied();
    let expected = facts.state_before(last);
    facts.demand(saved == expected, || {
        format!("agreement: the job ends in {saved:?}, an undisturbed run in {expected:?}")
    });
}
