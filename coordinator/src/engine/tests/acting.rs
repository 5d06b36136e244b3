//! What workers do in these tests, over and over.

use super::super::*;
use super::fixture::*;

/// Why the fixture's job failed.
pub(super) fn reason(fixture: &Fixture) -> &FailReason {
    match fixture.outcome() {
        Some(JobOutcome::Failed { reason, .. }) => reason,
        other => panic!("the job did not fail: {other:?}"),
    }
}

/// A sign of life.
pub(super) fn beat(fixture: &mut Fixture, number: u128) {
    fixture.report(number, wire::Event::Heartbeat(wire::Heartbeat::default()));
}

/// Everything that `number` was granted is computed and reported.
pub(super) fn compute_all(fixture: &mut Fixture, step: u64, actions: &[Action]) -> Vec<Action> {
    let mut waiting = granted(actions);
    let mut last = Vec::new();
    while let Some((to, slot)) = waiting.pop() {
        last = fixture.feed(Event::Reported {
            worker: to,
            session: 0,
            event: slot_done(step, &slot),
        });
        waiting.extend(granted(&last));
    }
    last
}

/// These members have the sum of a step.
pub(super) fn reduce(
    fixture: &mut Fixture,
    numbers: &[u128],
    epoch: u64,
    step: u64,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for number in numbers {
        let wire::Event::Reduced(mut report) = reduced(step, SUM) else {
            unreachable!("that is what it makes");
        };
        report.round.membership.epoch.0 = epoch;
        actions = fixture.report(*number, wire::Event::Reduced(report));
    }
    actions
}
