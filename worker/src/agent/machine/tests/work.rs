//! The work of a step.

use weft_common::wire::{CheckpointRef, CheckpointWritten, TakeCheckpoint};

use super::*;

fn take(step: u64) -> TakeCheckpoint {
    TakeCheckpoint {
        membership: membership(1, 1),
        checkpoint: CheckpointRef {
            dir: "/out".into(),
            next_step: Step(step),
        },
        world: 1,
    }
}

fn written() -> Event {
    Event::CheckpointWritten(CheckpointWritten {
        membership: membership(1, 1),
        checkpoint: take(0).checkpoint,
        bytes: 9,
        elapsed: Duration::from_secs(1),
    })
}

#[test]
fn a_step_is_computed_summed_and_applied_once() {
    let mut machine = member();
    let slot = leased(0, false);
    assert_eq!(
        command(&mut machine, lease(round(1, 0), vec![slot.clone()])),
        [compute(round(1, 0), slot)]
    );
    let report = slot_done(round(1, 0), 0);
    assert_eq!(done(&mut machine, report.clone()), [Action::Send(report)]);
    let reduce = Action::Train(Order::Reduce(round(1, 0)));
    assert_eq!(command(&mut machine, Command::Seal(round(1, 0))), [reduce]);
    let sum = reduced(round(1, 0));
    assert_eq!(done(&mut machine, sum.clone()), [Action::Send(sum)]);
    assert_eq!(
        command(&mut machine, commit(round(1, 0))),
        [apply(round(1, 0))]
    );
    assert_eq!(command(&mut machine, commit(round(1, 0))), []);
    let slot = leased(1, false);
    assert_eq!(
        command(&mut machine, lease(round(1, 1), vec![slot.clone()])),
        [compute(round(1, 1), slot)]
    );
}

#[test]
fn grants_of_the_step_in_hand_are_taken_from_this_epoch_and_older_ones() {
    let mut machine = member();
    command(&mut machine, Command::FormEpoch(epoch(1, 2, 0)));
    for accepted in [round(1, 0), round(2, 0)] {
        let slot = leased(0, false);
        assert_eq!(
            command(&mut machine, lease(accepted.clone(), vec![slot.clone()])),
            [compute(accepted, slot)]
        );
    }
    for refused in [round(3, 0), round(2, 1)] {
        let slots = vec![leased(0, false)];
        assert_eq!(command(&mut machine, lease(refused, slots)), []);
    }
}

#[test]
fn only_the_round_in_hand_is_sealed_and_committed() {
    let mut machine = member();
    for other in [round(1, 1), round(0, 0), round(2, 0)] {
        assert_eq!(command(&mut machine, Command::Seal(other.clone())), []);
        assert_eq!(command(&mut machine, commit(other)), []);
    }
}

#[test]
fn a_staged_slot_waits_for_its_verdict() {
    for (verdict, expected) in [
        (
            Verdict::Merge,
            vec![Action::Train(Order::Merge {
                round: round(1, 0),
                lease: LeaseId(3),
            })],
        ),
        (
            Verdict::Discard,
            vec![
                Action::Cancel(Scope::Staged),
                Action::Train(Order::Discard(LeaseId(3))),
            ],
        ),
    ] {
        let mut machine = member();
        let staged = leased(3, true);
        assert_eq!(
            command(&mut machine, lease(round(1, 0), vec![staged.clone()])),
            [compute(round(1, 0), staged)]
        );
        let report = slot_done(round(1, 0), 3);
        assert_eq!(done(&mut machine, report.clone()), [Action::Send(report)]);
        assert_eq!(
            command(&mut machine, settle(round(1, 0), 4, verdict)),
            [],
            "another grant"
        );
        let settled = settle(round(1, 0), 3, verdict);
        assert_eq!(command(&mut machine, settled.clone()), expected);
        assert_eq!(command(&mut machine, settled), [], "once");
    }
}

#[test]
fn a_slot_that_is_discarded_before_it_is_done_is_not_reported() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(3, true)]));
    command(&mut machine, settle(round(1, 0), 3, Verdict::Discard));
    assert_eq!(done(&mut machine, slot_done(round(1, 0), 3)), []);
}

#[test]
fn a_second_staged_slot_is_refused() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(3, true)]));
    let second = lease(round(1, 0), vec![leased(4, true)]);
    assert_eq!(command(&mut machine, second), []);
    let direct = lease(round(1, 0), vec![leased(5, false)]);
    assert_eq!(command(&mut machine, direct).len(), 1);
}

#[test]
fn a_worker_that_came_back_with_the_sum_applies_what_the_ledger_has() {
    let held = with_sum(holding(membership(1, 1), 0));
    let mut machine = back(member(), 2, held);
    let durable = membership(2, 0).round(Step(0));
    assert_eq!(
        command(&mut machine, commit(durable.clone())),
        [apply(durable.clone())]
    );
    assert_eq!(command(&mut machine, commit(durable)), []);
    let next = Command::FormEpoch(epoch(2, 1, 1));
    assert_eq!(command(&mut machine, next).len(), 2);
}

#[test]
fn a_worker_that_came_back_without_the_sum_applies_nothing() {
    let mut machine = back(member(), 2, holding(membership(1, 1), 0));
    let durable = membership(2, 0).round(Step(0));
    assert_eq!(command(&mut machine, commit(durable)), []);
}

#[test]
fn a_reduction_of_an_epoch_that_is_over_is_not_reported() {
    let mut machine = member();
    command(&mut machine, Command::Seal(round(1, 0)));
    command(&mut machine, Command::FormEpoch(epoch(1, 2, 0)));
    assert_eq!(done(&mut machine, reduced(round(1, 0))), []);
}

#[test]
fn a_checkpoint_is_taken_at_the_step_in_hand_and_told_to_who_asked() {
    let mut machine = member();
    assert_eq!(command(&mut machine, Command::TakeCheckpoint(take(4))), []);
    assert_eq!(
        command(&mut machine, Command::TakeCheckpoint(take(0))),
        [Action::Train(Order::Snapshot(take(0)))]
    );
    let mut later = back(machine.clone(), 1, holding(membership(1, 1), 0));
    assert_eq!(done(&mut machine, written()), [Action::Send(written())]);
    assert_eq!(done(&mut machine, written()), []);
    assert_eq!(
        done(&mut later, written()),
        [],
        "another session asked for it"
    );
}
