//! Members that are told to stop.

use weft_common::id::Step;
use weft_common::wire::Command;

use super::super::*;
use super::acting::{compute_all, reduce};
use super::fixture::*;

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
