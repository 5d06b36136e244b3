//! Members whose sums or states are wrong.

use weft_common::id::Digest;
use weft_common::wire::Command;

use super::super::*;
use super::acting::{compute_all, reason, reduce};
use super::fixture::*;

#[test]
fn a_member_with_another_sum_is_sent_away_and_its_slots_are_computed_again() {
    let (mut fixture, actions) = Fixture::running(3, 3, 6);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    let actions = fixture.report(3, reduced(0, Digest::of(b"flipped bit")));
    assert_eq!(
        formed(&actions),
        [(worker(1), 2, 2, true), (worker(2), 2, 2, true)]
    );
    assert_eq!(granted(&actions).len(), 2);
    let ended = commands(&actions)
        .iter()
        .any(|(to, c)| *to == worker(3) && matches!(c, Command::EndJob(_)));
    assert!(ended, "{actions:?}");
}

#[test]
fn of_two_with_different_sums_the_one_that_is_wrong_is_sent_away() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1], 1, 0);
    let actions = fixture.report(2, reduced(0, Digest::of(b"flipped bit")));
    assert_eq!(formed(&actions), [(worker(1), 2, 1, true)]);
    assert_eq!(granted(&actions).len(), 1, "its slot is computed again");
}

#[test]
fn a_member_that_puts_in_something_else_than_it_reported_is_sent_away() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute_all(&mut fixture, 0, &actions);
    let broken = Digest::of(b"flipped bit");
    for (number, part) in [(1, SUM), (2, broken)] {
        let wire::Event::Reduced(mut report) = reduced(0, broken) else {
            unreachable!("that is what it makes");
        };
        report.part = part;
        fixture.report(number, wire::Event::Reduced(report));
    }
    assert_eq!(fixture.run().live(), [worker(1)]);
}

#[test]
fn where_all_sums_are_wrong_the_step_is_computed_again_once() {
    let (mut fixture, mut actions) = Fixture::running(2, 3, 2);
    for epoch in [1, 2] {
        for (to, slot) in granted(&actions) {
            let wire::Event::SlotDone(mut done) = slot_done(0, &slot) else {
                unreachable!("that is what it makes");
            };
            done.round.membership.epoch.0 = epoch;
            let event = wire::Event::SlotDone(done);
            fixture.feed(Event::Reported {
                worker: to,
                session: 0,
                event,
            });
        }
        for number in [1, 2] {
            let wire::Event::Reduced(mut report) = reduced(0, Digest::of(b"lost bit")) else {
                unreachable!("that is what it makes");
            };
            report.round.membership.epoch.0 = epoch;
            actions = fixture.report(number, wire::Event::Reduced(report));
        }
        if epoch == 1 {
            let both = [(worker(1), 2, 2, false), (worker(2), 2, 2, false)];
            assert_eq!(formed(&actions), both);
            assert_eq!(granted(&actions).len(), 2);
        }
    }
    let text = reason(&fixture).to_string();
    assert!(text.contains("summed gradient"), "{text}");
}

#[test]
fn a_job_that_waits_because_a_worker_lied_says_so() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(JobTerms {
        min_workers: 2,
        ..terms(2)
    }));
    for number in 1..=2 {
        fixture.attach(number);
    }
    fixture.feed(Event::DataPrepared {
        job: job_id(),
        data: data(3, 2),
        continued: None,
    });
    fixture.report(1, prepared(b"start"));
    let actions = fixture.report(2, prepared(b"start"));
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1], 1, 0);
    let actions = fixture.report(2, reduced(0, Digest::of(b"flipped bit")));
    let waits = WaitReason::Workers {
        ready: 1,
        attached: 2,
        needed: 2,
        kept_out: 1,
    };
    let text = waits.to_string();
    assert!(
        text.contains("1 is given no job any more: start it again"),
        "{text}"
    );
    assert!(
        actions.contains(&tells(Notice::Waiting(waits))),
        "{actions:?}"
    );
    let workers: Vec<_> = fixture.engine.workers().collect();
    let why = workers[1].1.kept_out.as_deref();
    assert!(why.is_some_and(|why| why.contains("sum")), "{why:?}");
}
