//! Workers that join while a job runs.

use std::time::Duration;

use weft_common::wire::Command;

use super::super::*;
use super::acting::{compute_all, reduce};
use super::fixture::*;

#[test]
fn a_joiner_copies_the_state_and_takes_slots_of_the_step_in_hand() {
    let (mut fixture, _) = Fixture::running(2, 3, 6);
    fixture.lose(2);
    let actions = fixture.attach(3);
    let [(to, Command::Prepare(prepare))] = &commands(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((*to, &prepare.resume), (worker(3), &None));
    let actions = fixture.report(3, wire::Event::Prepared(holding(0, b"start")));
    let both = [(worker(1), 3, 2, true), (worker(3), 3, 2, true)];
    assert_eq!(formed(&actions), both, "it starts where the job stands");
    assert!(granted(&actions).iter().all(|(to, _)| *to == worker(3)));
}

#[test]
fn a_step_waits_a_moment_for_a_joiner_that_copies_its_state() {
    let (mut fixture, actions) = Fixture::running(1, 5, 1);
    fixture.feed(Event::ScaleRequested {
        job: job_id(),
        workers: 2,
    });
    fixture.attach(2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1], 1, 0);
    let actions = fixture.durable(0);
    fixture.report(1, applied(0, b"after"));
    let copying = fixture.report(2, wire::Event::Prepared(holding(0, b"start")));
    let [(to, Command::FetchState(fetch))] = &commands(&copying)[..] else {
        panic!("{copying:?}");
    };
    assert_eq!(
        (*to, fetch.source, fetch.address.port()),
        (worker(2), worker(1), 4001)
    );
    let done = compute_all(&mut fixture, 1, &actions);
    assert_eq!(commands(&done), [], "the step is complete, but not sealed");
    let actions = fixture.report(2, wire::Event::Prepared(holding(1, b"after")));
    assert_eq!(formed(&actions).len(), 2);
    let seals = commands(&actions)
        .iter()
        .filter(|(_, c)| matches!(c, Command::Seal(_)))
        .count();
    assert_eq!(seals, 2);
}

#[test]
fn a_step_waits_longer_for_a_joiner_whose_last_copy_came_too_late() {
    let (mut fixture, actions) = Fixture::running(1, 5, 1);
    fixture.feed(Event::ScaleRequested {
        job: job_id(),
        workers: 2,
    });
    fixture.attach(2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1], 1, 0);
    let actions = fixture.durable(0);
    fixture.report(1, applied(0, b"after"));
    fixture.report(2, wire::Event::Prepared(holding(0, b"start")));
    compute_all(&mut fixture, 1, &actions);
    // Its copy takes five seconds, and a step waits for two.
    assert_eq!(seconds_until_sealed(&mut fixture), 2);
    fixture.wait(Duration::from_secs(1));
    both_live(&mut fixture);
    fixture.wait(Duration::from_secs(1));
    both_live(&mut fixture);
    fixture.wait(Duration::from_secs(1));
    reduce(&mut fixture, &[1], 1, 1);
    let actions = fixture.durable(1);
    fixture.report(1, applied(1, b"later"));
    fixture.report(2, wire::Event::Prepared(holding(1, b"after")));
    compute_all(&mut fixture, 2, &actions);
    assert_eq!(seconds_until_sealed(&mut fixture), 8);
}

fn both_live(fixture: &mut Fixture) {
    for worker in [1, 2] {
        fixture.report(worker, wire::Event::Heartbeat(wire::Heartbeat::default()));
    }
}

/// Lets seconds pass in which both workers live.
fn seconds_until_sealed(fixture: &mut Fixture) -> u32 {
    for second in 1..60 {
        both_live(fixture);
        let actions = fixture.wait(Duration::from_secs(1));
        let mut commands = commands(&actions).into_iter();
        if commands.any(|(_, command)| matches!(command, Command::Seal(_))) {
            return second;
        }
    }
    panic!("the step is not sealed");
}
