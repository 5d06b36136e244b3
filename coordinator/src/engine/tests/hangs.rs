//! Workers that send signs of life, and do not get on.

use std::time::Duration;

use weft_common::id::{Step, WorkerId};
use weft_common::wire::{Command, ErrorKind, WorkerFailed};

use super::super::*;
use super::acting::{beat, compute_all, reduce};
use super::fixture::*;

/// Seconds pass in which these send signs of life; what was done in them.
fn seconds(fixture: &mut Fixture, number: u32, alive: &[u128]) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..number * 10 {
        for worker in alive {
            beat(fixture, *worker);
        }
        actions.extend(fixture.wait(Duration::from_millis(100)));
    }
    actions
}

fn told_to_end(actions: &[Action]) -> Vec<WorkerId> {
    let commands = commands(actions).into_iter();
    let ended = commands.filter(|(_, command)| matches!(command, Command::Shutdown { .. }));
    ended.map(|(to, _)| to).collect()
}

/// The first slot of `number` is computed and reported; whoever gets slots then does nothing.
fn compute_one(fixture: &mut Fixture, number: u128, actions: &[Action]) {
    let granted = granted(actions);
    let own = granted.iter().find(|(to, _)| *to == worker(number));
    let (_, slot) = own.expect("everybody has one");
    fixture.report(number, slot_done(0, slot));
}

#[test]
fn a_member_that_hangs_is_dismissed_though_it_sends_signs_of_life() {
    let (mut fixture, actions) = Fixture::running(2, 3, 4);
    compute_one(&mut fixture, 1, &actions);
    let mut actions = Vec::new();
    for _ in 0..31 {
        let busy = wire::Event::Failed(WorkerFailed {
            membership: membership(9),
            kind: ErrorKind::Collective,
            message: "of no consequence".into(),
            suspect: None,
        });
        fixture.report(1, busy);
        actions.extend(seconds(&mut fixture, 1, &[1, 2]));
    }
    assert_eq!(told_to_end(&actions), [worker(2)]);
    let hung = actions.iter().any(|action| matches!(action,
        Action::Notify { notice: Notice::MemberLost(Incident { worker: who, cause: LossCause::Stalled(_), .. }), .. }
        if who.worker == worker(2)));
    assert!(hung, "{actions:?}");
    assert_eq!(fixture.run().live(), [worker(1)]);
}

#[test]
fn until_somebody_has_computed_a_micro_batch_nobody_knows_how_long_they_take() {
    let (mut fixture, _) = Fixture::running(2, 3, 4);
    seconds(&mut fixture, 570, &[1, 2]);
    assert_eq!(fixture.run().live().len(), 2);
    let actions = seconds(&mut fixture, 30, &[1, 2]);
    assert_eq!(told_to_end(&actions), [worker(1), worker(2)]);
}

#[test]
fn a_member_that_hangs_in_the_sum_or_the_update_is_dismissed_as_well() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1], 1, 0);
    let actions = seconds(&mut fixture, 31, &[1, 2]);
    assert_eq!(told_to_end(&actions), [worker(2)]);

    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    let actions = fixture.durable(0);
    fixture.report(1, applied(0, b"state"));
    let own = granted(&actions)
        .into_iter()
        .filter(|(to, _)| *to == worker(1));
    for (_, slot) in own {
        fixture.report(1, slot_done(1, &slot));
    }
    let actions = seconds(&mut fixture, 31, &[1, 2]);
    assert!(told_to_end(&actions).contains(&worker(2)), "{actions:?}");
}

#[test]
fn a_worker_that_never_comes_to_the_end_of_loading_is_told_to_end() {
    let mut fixture = Fixture::new();
    fixture.engine.limits.load_within = Duration::from_secs(70);
    fixture.feed(Event::Submitted(terms(2)));
    fixture.attach(1);
    fixture.attach(2);
    let data = data(3, 2);
    fixture.feed(Event::DataPrepared {
        job: job_id(),
        data,
        continued: None,
    });
    fixture.report(1, prepared(b"start"));
    // After a minute the job begins with the one that is ready.
    let actions = seconds(&mut fixture, 65, &[1, 2]);
    assert_eq!(told_to_end(&actions), []);
    assert_eq!(fixture.run().live(), [worker(1)]);
    let actions = seconds(&mut fixture, 5, &[1, 2]);
    assert_eq!(told_to_end(&actions), [worker(2)]);
}

/// A step from its grants to the last update; what the last update led to.
fn step(fixture: &mut Fixture, step: u64, actions: &[Action]) -> Vec<Action> {
    compute_all(fixture, step, actions);
    for number in [1, 2] {
        fixture.report(number, reduced(step, SUM));
    }
    let mut actions = fixture.durable(step);
    for number in [1, 2] {
        actions.extend(fixture.report(number, applied(step, b"state")));
    }
    actions
}

fn writers(actions: &[Action]) -> Vec<(WorkerId, Step)> {
    let commands = commands(actions).into_iter();
    let asked = commands.filter_map(|(to, command)| match command {
        Command::TakeCheckpoint(take) => Some((to, take.checkpoint.next_step)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_checkpoint_that_takes_too_long_is_given_up_and_another_member_writes_the_next() {
    let (mut fixture, actions) = Fixture::running(2, 6, 2);
    fixture.engine.limits.save_within = Duration::from_secs(10);
    let actions = step(&mut fixture, 0, &actions);
    let actions = step(&mut fixture, 1, &actions);
    assert_eq!(writers(&actions), [(worker(1), Step(2))]);
    let late = seconds(&mut fixture, 11, &[1, 2]);
    let told = late.iter().any(|action| {
        matches!(action,
        Action::Notify { notice: Notice::CheckpointFailed { message, .. }, .. }
        if message.contains("within 10 s"))
    });
    assert!(told, "{late:?}");
    let actions = step(&mut fixture, 2, &actions);
    let actions = step(&mut fixture, 3, &actions);
    assert_eq!(writers(&actions), [(worker(2), Step(4))]);
}
