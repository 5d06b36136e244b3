//! What goes wrong: what it costs, what ends a job, and what people are told.

use std::time::Duration;

use weft_common::id::{Digest, Step};
use weft_common::wire::{
    CheckpointFailed, Command, ErrorKind, HeldSlot, HeldSum, Holding, SumHealth, WorkerFailed,
};

use super::super::*;
use super::fixture::*;

fn reason(fixture: &Fixture) -> &FailReason {
    match fixture.outcome() {
        Some(JobOutcome::Failed { reason, .. }) => reason,
        other => panic!("the job did not fail: {other:?}"),
    }
}

pub(super) fn beat(fixture: &mut Fixture, number: u128) {
    fixture.report(number, wire::Event::Heartbeat(wire::Heartbeat::default()));
}

/// Everything that `number` was granted is computed and reported.
pub(super) fn compute_all(fixture: &mut Fixture, step: u64, actions: &[Action]) -> Vec<Action> {
    let mut waiting = granted(actions);
    let mut last = Vec::new();
    while let Some((to, slot)) = waiting.pop() {
        last = fixture.feed(Event::Reported {
            worker: to,
            session: 0,
            event: slot_done(step, &slot),
        });
        waiting.extend(granted(&last));
    }
    last
}

pub(super) fn reduce(
    fixture: &mut Fixture,
    numbers: &[u128],
    epoch: u64,
    step: u64,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for number in numbers {
        let wire::Event::Reduced(mut report) = reduced(step, SUM) else {
            unreachable!("that is what it makes");
        };
        report.round.membership.epoch.0 = epoch;
        actions = fixture.report(*number, wire::Event::Reduced(report));
    }
    actions
}

#[test]
fn a_members_death_returns_its_slots_and_nothing_else() {
    let (mut fixture, actions) = Fixture::running(2, 3, 4);
    let mine = granted(&actions);
    let own = mine.iter().find(|(to, _)| *to == worker(1)).unwrap();
    fixture.report(1, slot_done(0, &own.1));
    let actions = fixture.lose(2);
    assert_eq!(formed(&actions), [(worker(1), 2, 1, true)]);
    let incident = actions.iter().find_map(|action| match action {
        Action::Notify {
            notice: Notice::MemberLost(incident),
            ..
        } => Some(incident.clone()),
        _ => None,
    });
    let incident = incident.expect("people are told");
    assert_eq!((incident.left, incident.slots_returned), (1, 1));
    let text = format!("{}: {}", incident.worker, incident.cause);
    assert!(
        text.contains("host-2") && text.contains("connection reset"),
        "{text}"
    );
}

#[test]
fn a_death_inside_the_reduction_computes_only_the_dead_members_slots_again() {
    let (mut fixture, actions) = Fixture::running(3, 3, 6);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    let actions = fixture.lose(3);
    let kept = [(worker(1), 2, 2, true), (worker(2), 2, 2, true)];
    assert_eq!(formed(&actions), kept);
    assert_eq!(
        granted(&actions).len(),
        2,
        "two slots were the dead member's"
    );
    let late = reduce(&mut fixture, &[1], 1, 0);
    assert_eq!(rejections(&late), [wire::RejectReason::Epoch]);
}

#[test]
fn a_death_after_the_sum_was_agreed_on_costs_nothing() {
    let (mut fixture, actions) = Fixture::running(2, 3, 4);
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    assert_eq!(formed(&fixture.lose(2)), [], "the commit comes first");
    let actions = fixture.durable(0);
    let [(to, Command::Commit(commit)), ..] = &commands(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((*to, commit.round.step), (worker(1), Step(0)));
    assert_eq!(formed(&actions), [(worker(1), 2, 1, true)]);
    assert_eq!(fixture.run().committed, Step(1));
}

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

#[test]
fn a_member_that_is_told_to_stop_leaves_at_the_end_of_the_step() {
    let (mut fixture, actions) = Fixture::running(2, 3, 4);
    let leave = wire::Event::Leave {
        reason: "SIGTERM".into(),
    };
    let actions = [actions, fixture.report(2, leave)].concat();
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    fixture.durable(0);
    fixture.report(1, applied(0, b"after"));
    let actions = fixture.report(2, applied(0, b"after"));
    assert_eq!(formed(&actions), [(worker(1), 2, 1, true)]);
    let dismissed = commands(&actions).contains(&(
        worker(2),
        Command::Shutdown {
            reason: "SIGTERM".into(),
        },
    ));
    assert!(dismissed, "{actions:?}");
}

#[test]
fn the_last_member_saves_before_it_leaves() {
    let (mut fixture, _) = Fixture::running(1, 3, 4);
    let actions = fixture.report(
        1,
        wire::Event::Leave {
            reason: "SIGTERM".into(),
        },
    );
    let [(_, Command::TakeCheckpoint(take))] = &commands(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(take.checkpoint.next_step, Step(0));
    let actions = fixture.report(1, written(0));
    assert_eq!(
        commands(&actions),
        [(
            worker(1),
            Command::Shutdown {
                reason: "SIGTERM".into()
            }
        )]
    );
    assert_eq!(fixture.outcome(), None, "the job waits for workers");
}

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
fn a_worker_that_is_no_member_comes_and_goes_unnoticed() {
    let (mut fixture, _) = Fixture::running(1, 3, 4);
    fixture.attach(9);
    fixture.lose(9);
    assert_eq!(fixture.outcome(), None);
}

#[test]
fn silence_is_death_but_not_while_the_coordinator_itself_was_paused() {
    let (mut fixture, _) = Fixture::running(2, 3, 4);
    fixture.wait(Duration::from_millis(100));
    fixture.wait(Duration::from_secs(10));
    assert_eq!(fixture.run().live().len(), 2, "the coordinator was paused");
    // The tick at which worker 2 is missed is the last one within a second and a half.
    for _ in 0..13 {
        beat(&mut fixture, 1);
        fixture.wait(Duration::from_millis(100));
        assert_eq!(fixture.run().live().len(), 2);
    }
    beat(&mut fixture, 1);
    fixture.wait(Duration::from_millis(100));
    assert_eq!(fixture.run().live(), [worker(1)]);
}

#[test]
fn a_short_pause_of_the_coordinator_leaves_time_to_hear_from_everybody() {
    let (mut fixture, _) = Fixture::running(2, 3, 4);
    let limits = Limits::default();
    fixture.wait(Duration::from_millis(100));
    // Both were about to be heard when it was paused, for just as long as does not count as a pause.
    fixture.wait(limits.heartbeat_every);
    fixture.wait(limits.own_pause);
    for _ in 0..4 {
        fixture.wait(Duration::from_millis(100));
        assert_eq!(fixture.run().live().len(), 2);
    }
}

#[test]
fn members_that_cannot_reach_each_other_try_again_and_then_one_is_left_out() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute_all(&mut fixture, 0, &actions);
    let mut epochs = Vec::new();
    for epoch in 1..=3 {
        let lost_peer = wire::Event::Failed(WorkerFailed {
            membership: membership(epoch),
            kind: ErrorKind::Collective,
            message: "lost ring peer".into(),
            suspect: Some(worker(2)),
        });
        assert_eq!(fixture.report(1, lost_peer), [], "somebody may be dead");
        for _ in 0..20 {
            beat(&mut fixture, 1);
            beat(&mut fixture, 2);
            let actions = fixture.wait(Duration::from_millis(100));
            epochs.extend(
                formed(&actions)
                    .into_iter()
                    .map(|(_, e, world, _)| (e, world)),
            );
        }
    }
    epochs.dedup();
    assert_eq!(epochs, [(2, 2), (3, 2), (4, 1)]);
    assert_eq!(fixture.run().live(), [worker(1)]);
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
