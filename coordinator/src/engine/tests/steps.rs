//! Steps from lease to commit.

use weft_common::id::{Digest, Step};
use weft_common::wire::{
    Command, Commit, Lease, RejectReason, Settle, TakeCheckpoint, Update, Verdict,
};

use super::super::*;
use super::fixture::*;
use crate::engine::round::Phase;

fn send(number: u128, command: Command) -> Action {
    Action::Send {
        to: worker(number),
        command,
    }
}

/// Computes all slots of the step whose leases are in `actions`; gives the actions of the last report.
fn compute(fixture: &mut Fixture, step: u64, actions: &[Action]) -> Vec<Action> {
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

#[test]
fn a_formed_epoch_gives_every_member_a_slot_before_any_gets_two() {
    let (_, actions) = Fixture::running(2, 3, 3);
    let to: Vec<_> = granted(&actions).iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [worker(1), worker(2)]);
}

#[test]
fn the_third_slot_goes_to_who_is_done_first() {
    let (mut fixture, actions) = Fixture::running(2, 3, 3);
    let second = granted(&actions)[1].1.clone();
    assert!(second.staged, "the tail of a step is staged");
    let actions = fixture.report(2, slot_done(0, &second));
    let granted = granted(&actions);
    assert_eq!(granted.len(), 1);
    let merge = Command::Settle(Settle {
        round: round(0),
        lease: second.lease,
        verdict: Verdict::Merge,
    });
    let lease = Command::Lease(Lease {
        round: round(0),
        step_supervised: 12,
        slots: vec![granted[0].1.clone()],
    });
    assert_eq!(actions, [send(2, merge), send(2, lease)]);
}

#[test]
fn the_last_slot_seals_the_step_for_all_at_once() {
    let (mut fixture, actions) = Fixture::running(2, 3, 3);
    let actions = compute(&mut fixture, 0, &actions);
    let seal = Command::Seal(round(0));
    let last = actions.len() - 2;
    assert_eq!(actions[last..], [send(1, seal.clone()), send(2, seal)]);
    let phase = &fixture.run().round.as_ref().unwrap().phase;
    assert!(matches!(phase, Phase::Reducing { .. }));
}

#[test]
fn equal_sums_are_recorded_before_anyone_hears_of_the_commit() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    compute(&mut fixture, 0, &actions);
    assert_eq!(fixture.report(1, reduced(0, SUM)), []);
    let actions = fixture.report(2, reduced(0, SUM));
    let [Action::AppendLedger { job, record }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((job, record.step), (&job_id(), Step(0)));
    assert_eq!(record.gradient_digest, SUM);
    assert_eq!(record.state_digest, Digest::of(b"start"));
    let who: Vec<_> = record.slots.iter().map(|slot| slot.worker).collect();
    assert_eq!(who, [worker(1), worker(2)]);
}

#[test]
fn the_leases_of_the_next_step_follow_the_commit_at_once() {
    let (mut fixture, actions) = Fixture::running(1, 3, 1);
    compute(&mut fixture, 0, &actions);
    fixture.report(1, reduced(0, SUM));
    let actions = fixture.durable(0);
    let next = granted(&actions).pop().unwrap().1;
    let commit = Command::Commit(Commit {
        round: round(0),
        update: Update::Apply,
    });
    let lease = Command::Lease(Lease {
        round: round(1),
        step_supervised: 4,
        slots: vec![next],
    });
    assert_eq!(actions, [send(1, commit), send(1, lease)]);
    assert_eq!(fixture.durable(0), [], "a second time changes nothing");
}

#[test]
fn checkpoints_are_asked_of_rank_0_when_due_and_at_the_end() {
    let (mut fixture, mut actions) = Fixture::running(2, 3, 2);
    let mut asked = Vec::new();
    for step in 0..3 {
        compute(&mut fixture, step, &actions);
        for number in [1, 2] {
            fixture.report(number, reduced(step, SUM));
        }
        actions = fixture.durable(step);
        for number in [1, 2] {
            fixture.report(number, applied(step, b"state"));
        }
        asked.extend(actions.iter().filter_map(|action| match action {
            Action::Send {
                to,
                command: Command::TakeCheckpoint(TakeCheckpoint { checkpoint, .. }),
            } => Some((*to, checkpoint.next_step)),
            _ => None,
        }));
        if step == 1 {
            fixture.report(1, written(2));
        }
    }
    assert_eq!(asked, [(worker(1), Step(2)), (worker(1), Step(3))]);
    let actions = fixture.report(1, written(3));
    let outcome = JobOutcome::Succeeded {
        steps: 3,
        checkpoint: terms(1).checkpoint_at(Step(3)),
    };
    assert_eq!(actions.last(), Some(&tells(Notice::Ended(outcome.clone()))));
    assert_eq!(fixture.outcome(), Some(&outcome));
}

#[test]
fn a_slot_is_accepted_once() {
    let (mut fixture, actions) = Fixture::running(2, 3, 3);
    let (_, slot) = granted(&actions)[0].clone();
    fixture.report(1, slot_done(0, &slot));
    let again = fixture.report(1, slot_done(0, &slot));
    assert_eq!(rejections(&again), [RejectReason::Slot]);
}

#[test]
fn a_report_of_another_step_epoch_term_job_or_size_is_refused() {
    type Forge = fn(&mut wire::SlotDone);
    let forged: [(Forge, RejectReason); 7] = [
        (|done| done.round.step.0 = 1, RejectReason::Step),
        (|done| done.slot.0 = 1, RejectReason::Lease),
        (|done| done.slot.0 = 99, RejectReason::Slot),
        (|done| done.outcome.tokens = 1, RejectReason::Outcome),
        (
            |done| done.round.membership.epoch.0 = 0,
            RejectReason::Lease,
        ),
        (|done| done.round.membership.term.0 = 6, RejectReason::Term),
        (
            |done| done.round.membership.job = "job-2".parse().unwrap(),
            RejectReason::Job,
        ),
    ];
    for (forge, reason) in forged {
        let (mut fixture, actions) = Fixture::running(2, 3, 3);
        let (_, slot) = granted(&actions)[0].clone();
        let wire::Event::SlotDone(mut done) = slot_done(0, &slot) else {
            panic!("not a slot");
        };
        forge(&mut done);
        let actions = fixture.report(1, wire::Event::SlotDone(done));
        assert_eq!(rejections(&actions), [reason]);
    }
}

#[test]
fn who_reports_anothers_lease_is_told_to_drop_what_it_has() {
    let (mut fixture, actions) = Fixture::running(2, 3, 3);
    let (_, slot) = granted(&actions)[0].clone();
    let theirs = fixture.report(2, slot_done(0, &slot));
    assert_eq!(rejections(&theirs), [RejectReason::Lease]);
    let kept = [(worker(1), 2, 2, true), (worker(2), 2, 2, false)];
    assert_eq!(formed(&theirs), kept);
    let own = fixture.report(1, slot_done(0, &slot));
    assert_eq!(rejections(&own), [], "the other's lease outlives the epoch");
}

#[test]
fn a_vote_before_the_seal_and_a_second_vote_are_refused() {
    let (mut fixture, actions) = Fixture::running(2, 3, 2);
    let early = fixture.report(1, reduced(0, SUM));
    assert_eq!(rejections(&early), [RejectReason::Phase]);
    compute(&mut fixture, 0, &actions);
    fixture.report(1, reduced(0, SUM));
    let second = fixture.report(1, reduced(0, SUM));
    assert_eq!(rejections(&second), [RejectReason::Phase]);
}
