//! What ends a job, and what people are told.

use std::time::Duration;

use weft_common::id::Step;
use weft_common::wire::{CheckpointFailed, Command, ErrorKind, SumHealth, WorkerFailed};

use super::super::*;
use super::fixture::*;

fn reason(fixture: &Fixture) -> &FailReason {
    match fixture.outcome() {
        Some(JobOutcome::Failed { reason, .. }) => reason,
        other => panic!("the job did not fail: {other:?}"),
    }
}

fn beat(fixture: &mut Fixture, number: u128) {
    fixture.report(number, wire::Event::Heartbeat(wire::Heartbeat::default()));
}

#[test]
fn a_lost_member_ends_the_job_and_is_named_with_its_last_slot() {
    let (mut fixture, actions) = Fixture::running(2, 3, 4);
    let slot = granted(&actions)[1].1.plan.slot;
    fixture.feed(Event::SessionLost {
        worker: worker(2),
        cause: "connection reset".into(),
    });
    let text = reason(&fixture).to_string();
    for part in [
        "host-2",
        "rank 1",
        "step 1",
        &format!("slot {slot}"),
        "connection reset",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_worker_that_is_no_member_comes_and_goes_unnoticed() {
    let (mut fixture, _) = Fixture::running(1, 3, 4);
    fixture.attach(9);
    fixture.feed(Event::SessionLost {
        worker: worker(9),
        cause: "gone".into(),
    });
    assert_eq!(fixture.outcome(), None);
}

#[test]
fn silence_is_death_but_not_while_the_coordinator_itself_was_paused() {
    let (mut fixture, _) = Fixture::running(2, 3, 4);
    fixture.wait(Duration::from_millis(100));
    fixture.wait(Duration::from_secs(10));
    assert_eq!(fixture.outcome(), None, "the coordinator was paused");
    for _ in 0..16 {
        beat(&mut fixture, 1);
        fixture.wait(Duration::from_millis(100));
    }
    let FailReason::WorkerLost {
        worker: lost,
        cause,
        ..
    } = reason(&fixture)
    else {
        panic!("{}", reason(&fixture));
    };
    assert_eq!(lost.worker, worker(2));
    assert!(matches!(cause, LossCause::Silent(_)));
}

#[test]
fn a_peer_that_cannot_be_reached_waits_for_the_news_of_who_died() {
    let lost_peer = || {
        wire::Event::Failed(WorkerFailed {
            membership: membership(1),
            kind: ErrorKind::Collective,
            message: "lost ring peer".into(),
        })
    };
    let (mut fixture, _) = Fixture::running(2, 3, 4);
    assert_eq!(fixture.report(1, lost_peer()), []);
    fixture.feed(Event::SessionLost {
        worker: worker(2),
        cause: "gone".into(),
    });
    assert!(matches!(reason(&fixture), FailReason::WorkerLost { .. }));

    let (mut fixture, _) = Fixture::running(2, 3, 4);
    fixture.report(1, lost_peer());
    for _ in 0..40 {
        beat(&mut fixture, 1);
        beat(&mut fixture, 2);
        fixture.wait(Duration::from_millis(100));
    }
    assert!(matches!(reason(&fixture), FailReason::WorkerFailed { .. }));
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
    });
    let waits = WaitReason::Workers {
        ready: 0,
        attached: 0,
        needed: 2,
    };
    assert_eq!(
        actions.last(),
        Some(&Action::Notify(Notice::Waiting(waits)))
    );
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

#[test]
fn a_cancelled_job_finishes_its_step_and_saves() {
    let (mut fixture, actions) = Fixture::running(1, 30, 1);
    fixture.feed(Event::CancelRequested(job_id()));
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    fixture.report(1, reduced(0, b"sum", SumHealth::Finite));
    fixture.durable(0);
    fixture.report(1, applied(0, b"state"));
    fixture.report(1, written(1));
    let checkpoint = Some(terms(1).checkpoint_at(Step(1)));
    assert_eq!(
        fixture.outcome(),
        Some(&JobOutcome::Cancelled { checkpoint })
    );
}

#[test]
fn a_final_checkpoint_that_fails_fails_the_job() {
    let (mut fixture, actions) = Fixture::running(1, 1, 1);
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    fixture.report(1, reduced(0, b"sum", SumHealth::Finite));
    fixture.durable(0);
    fixture.report(
        1,
        wire::Event::CheckpointFailed(CheckpointFailed {
            membership: membership(1),
            checkpoint: terms(1).checkpoint_at(Step(1)),
            kind: ErrorKind::Storage,
            message: "no space left on device".into(),
        }),
    );
    let text = reason(&fixture).to_string();
    assert!(text.contains("no space left on device"), "{text}");
}

#[test]
fn a_record_that_is_not_durable_ends_the_job_uncommitted() {
    let (mut fixture, actions) = Fixture::running(1, 3, 1);
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    fixture.report(1, reduced(0, b"sum", SumHealth::Finite));
    let actions = fixture.feed(Event::LedgerFailed {
        job: job_id(),
        step: Step(0),
        message: "disk full".into(),
    });
    let commits = |action: &Action| {
        matches!(
            action,
            Action::Send {
                command: Command::Commit(_),
                ..
            }
        )
    };
    assert!(!actions.iter().any(commits));
    assert!(matches!(reason(&fixture), FailReason::Ledger { .. }));
}

#[test]
fn a_second_job_is_refused_while_one_is_active() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(terms(1)));
    let refused = SubmitRefusal::Busy { active: job_id() };
    let actions = fixture.feed(Event::Submitted(terms(1)));
    assert_eq!(actions, [Action::AnswerSubmit(Err(refused))]);
}

#[test]
fn a_shutdown_cancels_dismisses_and_stops() {
    let mut fixture = Fixture::new();
    fixture.attach(1);
    let actions = fixture.feed(Event::ShutdownRequested {
        reason: "enough".into(),
    });
    let dismissal = Action::Send {
        to: worker(1),
        command: Command::Shutdown {
            reason: "enough".into(),
        },
    };
    assert_eq!(actions, [dismissal]);
    let actions = fixture.feed(Event::SessionLost {
        worker: worker(1),
        cause: "it closed its session".into(),
    });
    assert_eq!(actions.last(), Some(&Action::Stop));
}
