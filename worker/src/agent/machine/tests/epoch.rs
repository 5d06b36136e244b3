//! Memberships, and what makes a worker fit for one.

use weft_common::wire::{CheckpointRef, ErrorKind, FetchState, Restore, SyncFailed, WorkerFailed};

use super::*;
use crate::agent::order::StateCopy;

const SOURCE: WorkerId = WorkerId::from_number(8);

fn forms(machine: &mut Machine, epoch: weft_common::wire::FormEpoch) -> Vec<Action> {
    command(machine, Command::FormEpoch(epoch))
}

fn fetch_state(epoch: u64) -> Command {
    Command::FetchState(FetchState {
        membership: membership(1, epoch),
        source: SOURCE,
        address: "127.0.0.1:4001".parse().unwrap(),
    })
}

fn copy(epoch: u64) -> Action {
    Action::Copy(Copy {
        membership: membership(1, epoch),
        source: SOURCE,
        address: "127.0.0.1:4001".parse().unwrap(),
        limit_bytes: 600 + (64 << 20),
    })
}

fn copied(machine: &mut Machine, epoch: u64, found: Result<StateCopy, String>) -> Vec<Action> {
    machine.step(Input::Copied {
        membership: membership(1, epoch),
        source: SOURCE,
        found,
    })
}

fn restore(epoch: u64, checkpoint: Option<CheckpointRef>) -> Restore {
    Restore {
        membership: membership(1, epoch),
        checkpoint,
    }
}

fn prepared(epoch: u64, step: u64) -> Event {
    Event::Prepared(holding(membership(1, epoch), step))
}

#[test]
fn an_epoch_that_keeps_the_step_ends_only_the_reduction() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(0, false)]));
    let next = epoch(1, 2, 0);
    assert_eq!(
        forms(&mut machine, next.clone()),
        [
            Action::Cancel(Scope::Reduce),
            Action::Train(Order::Join(next))
        ]
    );
    let report = slot_done(round(1, 0), 0);
    assert_eq!(
        done(&mut machine, report.clone()),
        [Action::Send(report)],
        "an older grant is as good, under its own round"
    );
}

#[test]
fn an_epoch_that_keeps_nothing_voids_the_grants() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(0, false)]));
    let mut next = epoch(1, 2, 0);
    next.keep = false;
    assert_eq!(
        forms(&mut machine, next.clone()),
        [
            Action::Cancel(Scope::Reduce),
            Action::Cancel(Scope::Slots),
            Action::Cancel(Scope::Staged),
            Action::Train(Order::Join(next)),
        ]
    );
    assert_eq!(done(&mut machine, slot_done(round(1, 0), 0)), []);
}

#[test]
fn an_epoch_that_is_not_newer_or_of_another_step_is_dropped() {
    let mut machine = member();
    for stale in [epoch(1, 1, 0), epoch(1, 0, 0), epoch(1, 2, 1)] {
        assert_eq!(forms(&mut machine, stale), []);
    }
    command(&mut machine, commit(round(1, 0)));
    assert_eq!(forms(&mut machine, epoch(1, 2, 0)), []);
    assert_eq!(
        forms(&mut machine, epoch(1, 2, 1)).len(),
        2,
        "a commit counts as applied"
    );
}

#[test]
fn the_first_epoch_of_a_later_term_is_newer() {
    let mut machine = back(member(), 2, holding(membership(1, 1), 0));
    assert_eq!(forms(&mut machine, epoch(2, 1, 0)).len(), 2);
}

#[test]
fn a_peers_state_is_copied_and_adopted() {
    let mut machine = loaded();
    assert_eq!(command(&mut machine, fetch_state(4)), [copy(4)]);
    let state = StateCopy::new(Vec::new(), vec![1]);
    let adopt = Action::Train(Order::Adopt {
        membership: membership(1, 4),
        copy: state.clone(),
    });
    assert_eq!(copied(&mut machine, 4, Ok(state)), [adopt]);
    assert_eq!(
        forms(&mut machine, epoch(1, 5, 0)),
        [],
        "which step it stands before is not known yet"
    );
    assert_eq!(
        done(&mut machine, prepared(4, 7)),
        [Action::Send(prepared(4, 7))]
    );
    assert_eq!(forms(&mut machine, epoch(1, 5, 7)).len(), 2);
}

#[test]
fn a_copy_that_failed_is_told_and_changes_nothing() {
    let mut machine = loaded();
    command(&mut machine, fetch_state(4));
    let failed = SyncFailed {
        membership: membership(1, 4),
        source: SOURCE,
        message: "gone".into(),
    };
    assert_eq!(
        copied(&mut machine, 4, Err("gone".into())),
        [Action::Send(Event::SyncFailed(failed))]
    );
    assert_eq!(forms(&mut machine, epoch(1, 5, 0)).len(), 2);
}

#[test]
fn a_copy_that_nobody_waits_for_any_more_is_passed_over() {
    let mut machine = loaded();
    command(&mut machine, fetch_state(4));
    assert_eq!(
        command(&mut machine, fetch_state(5)),
        [Action::Cancel(Scope::Copy), copy(5)]
    );
    assert_eq!(copied(&mut machine, 4, Err("late".into())), []);
    let joined = forms(&mut machine, epoch(1, 6, 0));
    assert_eq!(joined[1], Action::Cancel(Scope::Copy));
    assert_eq!(copied(&mut machine, 5, Err("late".into())), []);
}

#[test]
fn a_member_copies_no_state() {
    assert_eq!(command(&mut member(), fetch_state(1)), []);
}

#[test]
fn a_lost_session_ends_a_copy() {
    let mut machine = loaded();
    command(&mut machine, fetch_state(4));
    assert!(lost(&mut machine).contains(&Action::Cancel(Scope::Copy)));
    assert_eq!(copied(&mut machine, 4, Err("late".into())), []);
}

#[test]
fn going_back_drops_all_work_and_membership() {
    let mut machine = member();
    command(&mut machine, lease(round(1, 0), vec![leased(0, false)]));
    let back_to = restore(2, None);
    assert_eq!(
        command(&mut machine, Command::Restore(back_to.clone())),
        [
            Action::Cancel(Scope::Reduce),
            Action::Cancel(Scope::Slots),
            Action::Cancel(Scope::Staged),
            Action::Train(Order::Restore(back_to)),
        ]
    );
    assert_eq!(command(&mut machine, Command::Seal(round(1, 0))), []);
    assert_eq!(
        done(&mut machine, prepared(2, 0)),
        [Action::Send(prepared(2, 0))]
    );
    assert_eq!(forms(&mut machine, epoch(1, 3, 0)).len(), 2);
}

#[test]
fn only_the_last_of_several_replacements_is_told() {
    let mut machine = loaded();
    command(&mut machine, fetch_state(4));
    copied(&mut machine, 4, Ok(StateCopy::new(Vec::new(), vec![1])));
    command(&mut machine, Command::Restore(restore(4, None)));
    assert_eq!(done(&mut machine, prepared(4, 7)), []);
    assert_eq!(
        done(&mut machine, prepared(4, 0)),
        [Action::Send(prepared(4, 0))]
    );
}

#[test]
fn a_failure_of_the_collective_is_told_unless_its_epoch_is_over() {
    let mut machine = member();
    let failed = WorkerFailed {
        membership: membership(1, 1),
        kind: ErrorKind::Collective,
        message: "lost ring peer".into(),
        suspect: Some(SOURCE),
    };
    let answer = Input::Answer(Answer::Failed(failed.clone()));
    assert_eq!(
        machine.step(answer.clone()),
        [Action::Send(Event::Failed(failed))]
    );
    forms(&mut machine, epoch(1, 2, 0));
    assert_eq!(machine.step(answer), []);
}
