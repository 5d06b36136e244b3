//! Workers that say nothing, cannot be reached, or are none of the job's.

use std::time::Duration;

use weft_common::wire::{ErrorKind, WorkerFailed};

use super::super::*;
use super::acting::{beat, compute_all};
use super::fixture::*;

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
