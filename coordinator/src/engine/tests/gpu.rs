//! Members whose GPU becomes sick.

use weft_common::gpu_health::xid::Xid;
use weft_common::gpu_health::{Concern, GpuHealth, Sickness};
use weft_common::wire::{Command, Heartbeat};

use super::super::*;
use super::acting::{compute_all, reduce};
use super::fixture::*;

/// A sign of life of a worker whose GPU has had these errors.
fn beat(codes: &[u32]) -> wire::Event {
    wire::Event::Heartbeat(Heartbeat {
        gpu: Some(GpuHealth {
            xids: codes.iter().copied().map(Xid).collect(),
            ..GpuHealth::default()
        }),
        ..Heartbeat::default()
    })
}

fn sickness() -> Sickness {
    let remedy = Xid(79).remedy().unwrap();
    Sickness::Xid(Xid(79), remedy)
}

fn told(actions: &[Action]) -> Vec<&Notice> {
    let notices = actions.iter().filter_map(|action| match action {
        Action::Notify { notice, .. } => Some(notice),
        _ => None,
    });
    notices.collect()
}

#[test]
fn a_member_whose_gpu_becomes_sick_is_let_go_at_the_end_of_the_step_and_never_again_a_member() {
    let (mut fixture, actions) = Fixture::running(2, 3, 4);
    let heard = fixture.report(2, beat(&[79]));
    assert!(
        told(&heard).iter().any(
            |notice| matches!(notice, Notice::GpuSick { sickness: of, .. } if *of == sickness())
        ),
        "{heard:?}"
    );
    let actions = [actions, heard].concat();
    compute_all(&mut fixture, 0, &actions);
    reduce(&mut fixture, &[1, 2], 1, 0);
    fixture.durable(0);
    fixture.report(1, applied(0, b"after"));
    let actions = fixture.report(2, applied(0, b"after"));
    assert_eq!(formed(&actions), [(worker(1), 2, 1, true)]);
    let reason = sickness().to_string();
    let dismissed = commands(&actions).contains(&(
        worker(2),
        Command::Shutdown {
            reason: reason.clone(),
        },
    ));
    assert!(dismissed, "{actions:?}");
    let mut workers = fixture.engine.workers();
    let (_, record) = workers.find(|(id, _)| *id == worker(2)).unwrap();
    assert_eq!(record.kept_out.as_deref(), Some(reason.as_str()));
}

#[test]
fn a_sickness_is_told_once_and_a_concern_stops_nothing() {
    let (mut fixture, _) = Fixture::running(2, 3, 4);
    let first = fixture.report(2, beat(&[31]));
    let [Notice::GpuConcern { concern, .. }] = told(&first)[..] else {
        panic!("{first:?}");
    };
    assert_eq!(*concern, Concern::Xid(Xid(31)));
    assert_eq!(fixture.report(2, beat(&[31])), []);

    assert_eq!(told(&fixture.report(2, beat(&[31, 79]))).len(), 1);
    assert_eq!(fixture.report(2, beat(&[31, 79])), []);
}

#[test]
fn a_worker_that_waits_with_a_sick_gpu_is_sent_away() {
    let (mut fixture, _) = Fixture::running(1, 3, 4);
    fixture.attach(2);
    let actions = fixture.report(2, beat(&[79]));
    let shutdown = commands(&actions)
        .into_iter()
        .any(|(to, command)| to == worker(2) && matches!(command, Command::Shutdown { .. }));
    assert!(shutdown, "{actions:?}");
}
