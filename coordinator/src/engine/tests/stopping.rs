//! How jobs and coordinators end.

use std::time::Duration;

use weft_common::id::Step;
use weft_common::wire::{CheckpointFailed, Command, ErrorKind};

use super::super::*;
use super::acting::{beat, compute_all, reason, reduce};
use super::fixture::*;

#[test]
fn a_cancelled_job_finishes_its_step_and_saves() {
    let (mut fixture, actions) = Fixture::running(1, 30, 1);
    fixture.feed(Event::CancelRequested(job_id()));
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    fixture.report(1, reduced(0, SUM));
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
fn a_final_checkpoint_that_keeps_failing_fails_the_job() {
    let (mut fixture, actions) = Fixture::running(1, 1, 1);
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    fixture.report(1, reduced(0, SUM));
    fixture.durable(0);
    fixture.report(1, applied(0, b"state"));
    let fails = |fixture: &mut Fixture| {
        let failed = CheckpointFailed {
            membership: membership(1),
            checkpoint: terms(1).checkpoint_at(Step(1)),
            kind: ErrorKind::Storage,
            message: "no space left on device".into(),
        };
        fixture.report(1, wire::Event::CheckpointFailed(failed));
    };
    fails(&mut fixture);
    let mut asked = 0;
    for _ in 0..95 {
        beat(&mut fixture, 1);
        let actions = fixture.wait(Duration::from_secs(1));
        let again = commands(&actions)
            .iter()
            .any(|(_, command)| matches!(command, Command::TakeCheckpoint(_)));
        asked += u32::from(again);
        fails(&mut fixture);
    }
    assert!(asked > 80, "it is tried again each second: {asked}");
    let text = reason(&fixture).to_string();
    assert!(text.contains("no space left on device"), "{text}");
}

#[test]
fn a_final_checkpoint_that_is_there_before_all_have_applied_is_not_written_again() {
    let (mut fixture, actions) = Fixture::running(2, 1, 2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    fixture.durable(0);
    fixture.report(1, applied(0, b"state"));

    let after_saving = fixture.report(1, written(1));

    assert_eq!(commands(&after_saving), []);
    assert_eq!(fixture.outcome(), None);
    fixture.report(2, applied(0, b"state"));
    let checkpoint = terms(2).checkpoint_at(Step(1));
    let succeeded = JobOutcome::Succeeded {
        steps: 1,
        checkpoint,
    };
    assert_eq!(fixture.outcome(), Some(&succeeded));
}

#[test]
fn a_record_that_is_not_durable_ends_the_job_uncommitted() {
    let (mut fixture, actions) = Fixture::running(1, 3, 1);
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    fixture.report(1, reduced(0, SUM));
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
fn a_job_of_the_same_name_is_refused_while_one_is_active() {
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
    let actions = fixture.lose(1);
    assert_eq!(actions.last(), Some(&Action::Stop));
}

#[test]
fn a_retired_coordinator_sends_home_who_is_there_and_who_comes_later() {
    let mut fixture = Fixture::new();
    fixture.attach(1);
    let dismissal = |number| Action::Send {
        to: worker(number),
        command: Command::Shutdown {
            reason: "all is done".into(),
        },
    };
    let actions = fixture.feed(Event::Retired {
        reason: "all is done".into(),
    });
    assert_eq!(actions, [dismissal(1)]);
    assert!(!fixture.lose(1).contains(&Action::Stop));
    assert_eq!(fixture.attach(2).last(), Some(&dismissal(2)));
    let actions = fixture.feed(Event::Submitted(terms(1)));
    let refused = SubmitRefusal::ShuttingDown;
    assert_eq!(actions, [Action::AnswerSubmit(Err(refused))]);
}

#[test]
fn a_coordinator_whose_ledger_was_taken_over_hangs_up_and_ends_nobodys_job() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 2, 0);
    let actions = fixture.feed(Event::LedgerFenced {
        job: job_id(),
        by: Term(9),
    });
    let outcome = JobOutcome::Failed {
        reason: FailReason::Superseded { by: Term(9) },
        checkpoint: None,
    };
    assert_eq!(
        actions,
        [
            Action::Hangup(worker(1)),
            Action::Hangup(worker(2)),
            tells(Notice::Ended(outcome)),
            Action::Stop,
        ]
    );
}

#[test]
fn a_job_that_was_taken_over_leaves_the_others_and_their_workers_alone() {
    let (mut fixture, _) = Fixture::running(1, 3, 2);
    let other: JobId = "job-2".parse().unwrap();
    fixture.feed(Event::Submitted(JobTerms {
        id: other.clone(),
        ..terms(1)
    }));
    fixture.attach(2);
    let actions = fixture.feed(Event::LedgerFenced {
        job: job_id(),
        by: Term(9),
    });
    assert_eq!(actions[0], Action::Hangup(worker(1)));
    assert!(!actions.contains(&Action::Hangup(worker(2))), "{actions:?}");
    assert!(!actions.contains(&Action::Stop), "{actions:?}");
    assert!(fixture.engine.job(&other).unwrap().is_active());
}

#[test]
fn a_fence_before_another_ledger_changes_nothing() {
    let (mut fixture, _) = Fixture::running(1, 3, 2);
    let job = "another-job".parse().unwrap();
    let actions = fixture.feed(Event::LedgerFenced { job, by: Term(9) });
    assert_eq!(actions, []);
}
