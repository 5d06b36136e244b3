//! What a worker says that it holds is what it holds.

use weft_common::id::LeaseId;
use weft_common::wire::ErrorKind;

use super::*;

#[test]
fn settling_tells_exactly_the_slots_in_the_accumulator() {
    let mut subject = Subject::alone(None);
    assert_eq!(subject.held(), (0, vec![], None));
    subject.compute(4, false);
    subject.slot_done();
    assert_eq!(subject.held(), (0, vec![4], None));
    subject.compute(2, false);
    subject.slot_done();
    assert_eq!(subject.held(), (0, vec![4, 2], None));
    let holding = subject.settle().unwrap();
    assert_eq!(holding.membership, membership(1, 1));
    assert_eq!(
        (holding.ring_port, holding.peer_port),
        (subject.loaded.ring_port, 7)
    );
}

#[test]
fn settling_lets_the_running_slot_finish_and_drops_those_behind_it() {
    let (gate, keeper) = Gate::new();
    let mut subject = Subject::alone(Some(gate));
    subject.compute(0, false);
    subject.compute(1, false);
    assert_eq!(keeper.entered.recv(), Ok(SlotId(0)));
    for scope in [Scope::Slots, Scope::Staged, Scope::Reduce] {
        subject.tokens.cancel(scope);
    }
    drop(keeper.open);
    assert_eq!(subject.held(), (0, vec![0], None));
    assert!(keeper.entered.try_recv().is_err(), "slot 1 never began");
}

#[test]
fn a_staged_slot_is_not_held_until_it_is_merged() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.compute(1, true);
    subject.slot_done();
    subject.slot_done();
    assert_eq!(subject.held(), (0, vec![0], None));

    subject.compute(1, true);
    subject.slot_done();
    subject.order(Order::Merge {
        round: round(1, 0),
        lease: LeaseId(1),
    });
    assert_eq!(subject.held(), (0, vec![0, 1], None));
}

#[test]
fn settling_forgets_what_is_staged() {
    let mut subject = Subject::alone(None);
    subject.compute(1, true);
    subject.slot_done();
    subject.held();
    subject.order(Order::Merge {
        round: round(1, 0),
        lease: LeaseId(1),
    });
    assert_eq!(subject.failed().kind, ErrorKind::Internal);
}

#[test]
fn a_discarded_slot_is_abandoned_while_it_runs_and_not_reported() {
    let (gate, keeper) = Gate::new();
    let mut subject = Subject::alone(Some(gate));
    subject.compute(3, true);
    assert_eq!(keeper.entered.recv(), Ok(SlotId(3)));
    subject.tokens.cancel(Scope::Staged);
    subject.order(Order::Discard(LeaseId(3)));
    subject.order(Order::Describe(membership(1, 1)));
    let holding = subject.prepared();
    assert_eq!(holding.slots, []);
}

#[test]
fn a_sum_is_held_until_something_is_computed_or_it_is_applied() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.slot_done();
    subject.order(Order::Reduce(round(1, 0)));
    subject.reduced();
    let sum = Some(sum_of(0, &[0]));
    assert_eq!(subject.held(), (0, vec![0], sum));
    subject.compute(1, false);
    subject.slot_done();
    assert_eq!(subject.held(), (0, vec![0, 1], None));

    let epoch = form(membership(1, 2), &[(1, 0)], 0);
    subject.order(Order::Join(epoch));
    subject.order(Order::Reduce(round(2, 0)));
    subject.reduced();
    subject.order(apply(2, 0));
    subject.answer();
    assert_eq!(subject.held(), (1, vec![], None));
}

#[test]
fn a_sum_that_outlived_its_session_can_be_applied() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.order(Order::Reduce(round(1, 0)));
    subject.slot_done();
    subject.reduced();
    let sum = subject.held().2;
    assert_eq!(sum, Some(sum_of(0, &[0])));
    subject.order(apply(1, 0));
    let applied = subject.answer();
    assert!(matches!(applied, Answer::Done(Event::Applied(_))));
}

#[test]
fn a_step_without_its_sum_is_not_applied_and_changes_nothing() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.slot_done();
    for step in [0, 1] {
        subject.order(apply(1, step));
        assert_eq!(subject.failed().kind, ErrorKind::Internal);
    }
    assert_eq!(subject.held(), (0, vec![0], None));
}

#[test]
fn a_new_epoch_keeps_the_accumulator_or_drops_it_as_told() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.slot_done();
    subject.order(Order::Join(form(membership(1, 2), &[(1, 0)], 0)));
    subject.order(compute(0, 1, false));
    subject.slot_done();
    subject.order(Order::Reduce(round(2, 0)));
    assert_eq!(subject.reduced().digest, sum_of(0, &[0, 1]));

    let mut epoch = form(membership(1, 3), &[(1, 0)], 0);
    epoch.keep = false;
    subject.order(Order::Join(epoch));
    subject.compute(5, false);
    subject.slot_done();
    subject.order(Order::Reduce(round(3, 0)));
    assert_eq!(subject.reduced().digest, sum_of(0, &[5]));
}

#[test]
fn a_slot_that_failed_half_way_leaves_nothing() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.slot_done();
    let mut broken = leased(1, false);
    broken.plan.rows.clear();
    subject.order(Order::Compute {
        round: round(1, 0),
        step_supervised: 8,
        slot: broken,
    });
    subject.failed();
    assert_eq!(subject.held(), (0, vec![], None));
    subject.compute(2, false);
    subject.slot_done();
    assert_eq!(subject.held(), (0, vec![2], None));
}

#[test]
fn going_back_to_the_beginning_or_a_checkpoint_forgets_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut subject = Subject::alone(None);
    let initial = subject.loaded.engine.state_digest;
    subject.compute(0, false);
    subject.order(Order::Reduce(round(1, 0)));
    subject.order(apply(1, 0));
    let checkpoint = CheckpointRef {
        dir: folder.path().join("saved"),
        next_step: Step(1),
    };
    subject.order(Order::Snapshot(TakeCheckpoint {
        membership: membership(1, 1),
        checkpoint: checkpoint.clone(),
        world: 1,
    }));
    for _ in 0..4 {
        subject.answer();
    }
    let restore = |checkpoint| {
        Order::Restore(Restore {
            membership: membership(1, 2),
            checkpoint,
        })
    };
    subject.order(compute(1, 3, false));
    subject.slot_done();
    subject.order(restore(None));
    let holding = subject.prepared();
    assert_eq!(holding.engine.state_digest, initial);
    assert_eq!((holding.next_step, holding.slots), (Step(0), vec![]));
    assert_eq!(holding.membership, membership(1, 2));

    subject.order(restore(Some(checkpoint)));
    let holding = subject.prepared();
    assert_eq!((holding.next_step, holding.slots), (Step(1), vec![]));
    assert_ne!(holding.engine.state_digest, initial);
}

#[test]
fn a_state_that_cannot_be_adopted_changes_nothing() {
    let mut subject = Subject::alone(None);
    subject.compute(0, false);
    subject.slot_done();
    subject.order(Order::Adopt {
        membership: membership(1, 1),
        copy: StateCopy::new(Vec::new(), vec![1; 7]),
    });
    assert_eq!(subject.failed().kind, ErrorKind::Checkpoint);
    assert_eq!(subject.held(), (0, vec![0], None));
}

#[test]
fn without_a_job_settling_tells_of_nothing() {
    let mut subject = Subject::alone(None);
    subject.order(Order::Unload);
    assert_eq!(subject.settle(), None);
}
