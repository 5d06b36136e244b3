//! Workers that come back, and those that nobody waits for any longer.

use std::time::Duration;

use weft_common::id::{Digest, Step};
use weft_common::wire::{Command, HeldSlot, HeldSum, Holding, SumHealth};

use super::super::*;
use super::acting::{beat, compute_all, reduce};
use super::fixture::*;

#[test]
fn who_comes_back_in_time_keeps_what_it_computed() {
    let (mut fixture, actions) = Fixture::running(2, 3, 8);
    let mine = granted(&actions);
    let own = mine
        .iter()
        .find(|(to, _)| *to == worker(2))
        .unwrap()
        .1
        .clone();
    fixture.report(2, slot_done(0, &own));
    fixture.lose(2);
    let held = HeldSlot {
        slot: own.plan.slot,
        outcome: outcome(&own.plan),
    };
    let back = Holding {
        slots: vec![held],
        ..holding(0, b"start")
    };
    let actions = fixture.come(2, 1, Some(back));
    assert_eq!(
        formed(&actions),
        [(worker(1), 3, 2, true), (worker(2), 3, 2, true)]
    );
}

#[test]
fn who_comes_back_too_late_drops_what_others_compute_by_now() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    let mine = granted(&actions);
    let own = mine
        .iter()
        .find(|(to, _)| *to == worker(2))
        .unwrap()
        .1
        .clone();
    fixture.lose(2);
    let first = mine
        .iter()
        .find(|(to, _)| *to == worker(1))
        .unwrap()
        .1
        .clone();
    let taken = granted(&fixture.report(1, slot_done(0, &first)));
    assert_eq!(taken[0].1.plan.slot, own.plan.slot);
    let held = HeldSlot {
        slot: own.plan.slot,
        outcome: outcome(&own.plan),
    };
    let back = Holding {
        slots: vec![held],
        ..holding(0, b"start")
    };
    let actions = fixture.come(2, 1, Some(back));
    assert_eq!(
        formed(&actions),
        [(worker(1), 3, 2, true), (worker(2), 3, 2, false)]
    );
}

#[test]
fn an_old_session_of_a_worker_says_and_ends_nothing() {
    let (mut fixture, actions) = Fixture::running(1, 3, 2);
    let own = granted(&actions)[0].1.clone();
    fixture.come(1, 1, Some(holding(0, b"start")));
    let late = fixture.report(1, slot_done(0, &own));
    assert_eq!(late, []);
    assert_eq!(fixture.lose(1), []);
    assert_eq!(fixture.run().live(), [worker(1)]);
}

#[test]
fn a_job_that_lost_everybody_waits_for_who_holds_its_state_and_then_goes_back() {
    let (mut fixture, actions) = Fixture::running(1, 5, 1);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1], 1, 0);
    fixture.durable(0);
    fixture.report(1, applied(0, b"after"));
    let waits = fixture.lose(1);
    let reason = tells(Notice::Waiting(WaitReason::Holders {
        committed: Step(1),
        saved: Step(0),
        within: Duration::from_secs(10),
    }));
    assert!(waits.contains(&reason), "{waits:?}");
    fixture.attach(2);
    fixture.report(2, wire::Event::Prepared(holding(0, b"start")));
    assert_eq!(fixture.run().committed, Step(1));
    let mut actions = Vec::new();
    for _ in 0..101 {
        beat(&mut fixture, 2);
        actions.extend(fixture.wait(Duration::from_millis(100)));
    }
    let rewinds = Action::RewindLedger {
        job: job_id(),
        first_step: Step(0),
    };
    assert!(actions.contains(&rewinds), "{actions:?}");
    assert_eq!(formed(&actions), [(worker(2), 3, 1, true)]);
}

#[test]
fn who_missed_a_commit_that_the_ledger_has_is_told_to_apply_it() {
    let mut fixture = Fixture::new();
    let digest = Digest::of(b"sum");
    let update = wire::Update::Apply;
    let last = CommittedSum {
        step: Step(0),
        digest,
        update,
    };
    let continued = Continued {
        committed: Step(1),
        last: Some(last),
    };
    fixture.feed(Event::Submitted(terms(1)));
    let data = data(5, 1);
    fixture.feed(Event::DataPrepared {
        job: job_id(),
        data,
        continued: Some(continued),
    });
    let sum = HeldSum {
        digest,
        health: SumHealth::Finite,
    };
    let held = Holding {
        sum: Some(sum),
        ..holding(0, b"start")
    };
    let actions = fixture.come(1, 3, Some(held));
    let [(_, Command::Commit(commit))] = &commands(&actions)[..] else {
        panic!("{actions:?}");
    };
    let round = commit.round.clone();
    assert_eq!(round.step, Step(0));
    let wire::Event::Applied(mut report) = applied(0, b"after") else {
        unreachable!("that is what it makes");
    };
    report.round = round;
    let event = wire::Event::Applied(report);
    let actions = fixture.feed(Event::Reported {
        worker: worker(1),
        session: 3,
        event,
    });
    assert_eq!(formed(&actions), [(worker(1), 1, 1, true)]);
    assert_eq!(fixture.run().committed, Step(1));
}
