//! Jobs that lack workers.

use std::time::Duration;

use weft_common::wire::Command;

use super::super::*;
use super::acting::{beat, reason};
use super::fixture::*;

#[test]
fn below_the_minimum_the_job_waits_and_says_so() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(JobTerms {
        min_workers: 2,
        ..terms(2)
    }));
    for number in 1..=2 {
        fixture.attach(number);
    }
    let data = data(3, 4);
    fixture.feed(Event::DataPrepared {
        job: job_id(),
        data,
        continued: None,
    });
    fixture.report(1, prepared(b"start"));
    let actions = fixture.report(2, prepared(b"start"));
    let own = granted(&actions)[0].1.clone();
    let actions = fixture.lose(2);
    let waits = WaitReason::Workers {
        ready: 1,
        attached: 1,
        needed: 2,
        kept_out: 0,
    };
    assert!(
        actions.contains(&tells(Notice::Waiting(waits))),
        "{actions:?}"
    );
    let done = fixture.report(1, slot_done(0, &own));
    assert_eq!(granted(&done), [], "no slots are handed out meanwhile");
    fixture.attach(3);
    let actions = fixture.report(3, prepared(b"start"));
    assert_eq!(formed(&actions).len(), 2);
    assert!(!granted(&actions).is_empty());
}

#[test]
fn different_starts_are_found_before_the_first_step() {
    let mut fixture = Fixture::new();
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
    fixture.report(2, prepared(b"other start"));
    let FailReason::Disagreement { what, odd, .. } = reason(&fixture) else {
        panic!("{}", reason(&fixture));
    };
    assert_eq!((*what, odd.len()), (Compared::Start, 2));
}

#[test]
fn a_job_without_enough_workers_says_what_it_waits_for_and_gives_up() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(terms(2)));
    let data = data(3, 2);
    let actions = fixture.feed(Event::DataPrepared {
        job: job_id(),
        data,
        continued: None,
    });
    let waits = WaitReason::Workers {
        ready: 0,
        attached: 0,
        needed: 2,
        kept_out: 0,
    };
    assert_eq!(actions.last(), Some(&tells(Notice::Waiting(waits))));
    fixture.wait(Duration::from_secs(61));
    assert!(matches!(
        reason(&fixture),
        FailReason::NotEnoughWorkers { needed: 1, .. }
    ));
}

#[test]
fn after_the_deadline_the_minimum_suffices() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(terms(2)));
    fixture.attach(1);
    let data = data(3, 2);
    fixture.feed(Event::DataPrepared {
        job: job_id(),
        data,
        continued: None,
    });
    fixture.report(1, prepared(b"start"));
    let mut actions = Vec::new();
    for _ in 0..70 {
        beat(&mut fixture, 1);
        actions.extend(fixture.wait(Duration::from_millis(900)));
    }
    let formed = actions.iter().any(|action| {
        matches!(action, Action::Send { command: Command::FormEpoch(epoch), .. } if epoch.members.len() == 1)
    });
    assert!(formed, "{actions:?}");
}

#[test]
fn a_job_cancelled_while_forming_ends_at_once() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(terms(1)));
    fixture.feed(Event::CancelRequested(job_id()));
    assert_eq!(
        fixture.outcome(),
        Some(&JobOutcome::Cancelled { checkpoint: None })
    );
}
