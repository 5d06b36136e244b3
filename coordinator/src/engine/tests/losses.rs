//! Members that die, and what that costs.

use std::time::Duration;

use weft_common::id::Step;
use weft_common::wire::Command;

use super::super::*;
use super::acting::{beat, compute_all, reduce};
use super::fixture::*;

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
fn members_that_fall_silent_together_cost_one_membership() {
    let (mut fixture, _) = Fixture::running(3, 3, 6);
    let mut told = Vec::new();
    while told.is_empty() {
        beat(&mut fixture, 1);
        told = formed(&fixture.wait(Duration::from_millis(250)));
    }
    assert_eq!(told, [(worker(1), 2, 1, true)]);
}

#[test]
fn a_great_membership_is_told_of_many_losses_together() {
    let (mut fixture, _) = Fixture::running(100, 3, 100);
    fixture.wait(Duration::from_millis(100));
    let mut memberships = 0;
    for number in 1..=30 {
        let actions = fixture.lose(number);
        memberships += usize::from(!formed(&actions).is_empty());
    }
    assert!((1..=10).contains(&memberships), "{memberships}");
    let actions = fixture.wait(Duration::from_millis(100));
    assert_eq!(
        formed(&actions).len(),
        70,
        "what is left is told in the end"
    );
}
