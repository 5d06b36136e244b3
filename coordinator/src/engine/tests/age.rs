//! The age of the newest complete checkpoint is an alarm, and no more than that.

use std::time::Duration;

use weft_common::wire::{CheckpointFailed, ErrorKind};

use super::super::*;
use super::acting::{beat, compute_all};
use super::fixture::*;

/// Seconds that a step takes here.
const STEP: u64 = 20;

/// A storage that refuses every checkpoint, or takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    Refuses,
    Takes,
}

/// One step with a checkpoint where it is due; the alarms that were told meanwhile.
fn step(
    fixture: &mut Fixture,
    step: u64,
    actions: &[Action],
    storage: Storage,
) -> (Vec<Action>, usize) {
    let mut told = Vec::new();
    for _ in 0..STEP {
        beat(fixture, 1);
        told.extend(fixture.wait(Duration::from_secs(1)));
    }
    compute_all(fixture, step, actions);
    fixture.report(1, reduced(step, SUM));
    let granted = fixture.durable(step);
    fixture.report(1, applied(step, b"state"));
    let next = step + 1;
    let saved = match storage {
        Storage::Takes => written(next),
        Storage::Refuses => wire::Event::CheckpointFailed(CheckpointFailed {
            membership: membership(1),
            checkpoint: terms(1).checkpoint_at(weft_common::id::Step(next)),
            kind: ErrorKind::Storage,
            message: "the bucket answers with errors".into(),
        }),
    };
    fixture.report(1, saved);
    let alarms = told.iter().filter(|action| {
        matches!(
            action,
            Action::Notify {
                notice: Notice::CheckpointOverdue(_),
                ..
            }
        )
    });
    (granted, alarms.count())
}

#[test]
fn a_storage_that_fails_for_long_is_an_alarm_once_and_training_goes_on() {
    let (mut fixture, mut actions) = Fixture::running(1, 100, 1);
    let mut alarms = Vec::new();
    for number in 0..40 {
        let storage = match number {
            0..30 => Storage::Refuses,
            _ => Storage::Takes,
        };
        let (granted, told) = step(&mut fixture, number, &actions, storage);
        actions = granted;
        alarms.extend((0..told).map(|_| number));
    }
    // One is due every 40 s; five minutes are always fine.
    assert!(matches!(alarms[..], [14 | 15]), "{alarms:?}");
    assert_eq!(fixture.run().committed.0, 40);
    assert_eq!(fixture.run().age.alarm, None, "the last ones are saved");
}

#[test]
fn a_storage_that_fails_for_a_minute_is_no_alarm() {
    let (mut fixture, mut actions) = Fixture::running(1, 100, 1);
    for number in 0..40 {
        let storage = match number {
            10..14 => Storage::Refuses,
            _ => Storage::Takes,
        };
        let (granted, told) = step(&mut fixture, number, &actions, storage);
        actions = granted;
        assert_eq!(told, 0, "step {number}");
    }
}
