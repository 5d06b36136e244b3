//! What a worker does, as lists of actions.

mod epoch;
mod job;
mod session;
mod work;

use std::time::Duration;

use weft_common::id::{Digest, Epoch, LeaseId, SlotId, Step, Term, WorkerId};
use weft_common::wire::{
    Command, Commit, EndJob, EngineInfo, Event, HeldSum, Holding, Lease, LeasedSlot, Membership,
    MemoryReport, ReducedReport, Round, Settle, SlotDone, SumHealth, Update, Verdict,
};

use super::*;
use crate::agent::order::{Loading, Order};
use crate::agent::testing::{form, leased, membership, outcome, prepare, round};

fn command(machine: &mut Machine, command: Command) -> Vec<Action> {
    machine.step(Input::Command(command))
}

fn done(machine: &mut Machine, event: Event) -> Vec<Action> {
    machine.step(Input::Answer(Answer::Done(event)))
}

fn connected(machine: &mut Machine, term: u64) -> Vec<Action> {
    machine.step(Input::Connected { term: Term(term) })
}

fn lost(machine: &mut Machine) -> Vec<Action> {
    machine.step(Input::SessionLost("reset".into()))
}

fn holding(membership: Membership, step: u64) -> Holding {
    Holding {
        membership,
        next_step: Step(step),
        engine: EngineInfo {
            device: "cpu".into(),
            adapter_params: 1,
            base_params: 1,
            model_digest: Digest::of(b"model"),
            state_digest: Digest::of(b"state"),
            scales_loss: false,
            memory: MemoryReport {
                adapter_bytes: 100,
                optimizer_bytes: 200,
                ..MemoryReport::default()
            },
        },
        ring_port: 4000,
        peer_port: 4001,
        slots: Vec::new(),
        sum: None,
    }
}

fn with_sum(holding: Holding) -> Holding {
    let sum = Some(HeldSum {
        digest: Digest::of(b"sum"),
        health: SumHealth::Finite,
    });
    Holding { sum, ..holding }
}

fn lease(round: Round, slots: Vec<LeasedSlot>) -> Command {
    Command::Lease(Lease {
        round,
        step_supervised: 8,
        slots,
    })
}

fn compute(round: Round, slot: LeasedSlot) -> Action {
    Action::Train(Order::Compute {
        round,
        step_supervised: 8,
        slot,
    })
}

fn slot_done(round: Round, slot: u32) -> Event {
    let plan = leased(slot, false).plan;
    Event::SlotDone(SlotDone {
        outcome: outcome(round.step, &plan),
        round,
        slot: SlotId(slot),
        lease: LeaseId(u64::from(slot)),
        elapsed: Duration::from_secs(1),
    })
}

fn reduced(round: Round) -> Event {
    Event::Reduced(ReducedReport {
        round,
        digest: Digest::of(b"sum"),
        part: Digest::of(b"part"),
        health: SumHealth::Finite,
        elapsed: Duration::from_secs(1),
    })
}

fn commit(round: Round) -> Command {
    Command::Commit(Commit {
        round,
        update: Update::Apply,
    })
}

fn apply(round: Round) -> Action {
    Action::Train(Order::Apply {
        round,
        update: Update::Apply,
    })
}

fn settle(round: Round, lease: u64, verdict: Verdict) -> Command {
    Command::Settle(Settle {
        round,
        lease: LeaseId(lease),
        verdict,
    })
}

fn end(term: u64) -> Command {
    Command::EndJob(EndJob {
        membership: membership(term, 0),
        outcome: "succeeded".into(),
    })
}

fn epoch(term: u64, epoch: u64, step: u64) -> weft_common::wire::FormEpoch {
    form(membership(term, epoch), &[(1, 4000)], step)
}

/// Attached in term 1, without a job.
fn standby() -> Machine {
    let (mut machine, _) = Machine::start();
    assert_eq!(connected(&mut machine, 1), []);
    machine
}

/// Loading job 1.
fn loading() -> Machine {
    let mut machine = standby();
    command(&mut machine, Command::Prepare(prepare(membership(1, 0))));
    let load = machine.step(Input::Dataset {
        job: membership(1, 0).job,
        found: Ok("/data".into()),
    });
    assert!(matches!(load[..], [Action::Train(Order::Load(_))]));
    machine
}

/// Loaded, before step 0, member of nothing.
fn loaded() -> Machine {
    let mut machine = loading();
    done(&mut machine, Event::Prepared(holding(membership(1, 0), 0)));
    machine
}

/// A member of epoch 1 before step 0.
fn member() -> Machine {
    let mut machine = loaded();
    let joined = command(&mut machine, Command::FormEpoch(epoch(1, 1, 0)));
    assert!(matches!(joined.last(), Some(Action::Train(Order::Join(_)))));
    machine
}

/// Back in `term`, having told that it holds this.
fn back(mut machine: Machine, term: u64, holding: Holding) -> Machine {
    lost(&mut machine);
    let settled = Input::Answer(Answer::Settled(Some(holding)));
    assert!(matches!(
        machine.step(settled)[..],
        [Action::Connect(Connect {
            holding: Some(_),
            ..
        })]
    ));
    connected(&mut machine, term);
    machine
}

#[test]
fn a_member_that_is_told_to_stop_works_on_until_its_job_ends() {
    let mut machine = member();
    let asked = machine.step(Input::StopRequested);
    assert!(matches!(asked[..], [Action::Send(Event::Leave { .. })]));
    assert_eq!(machine.step(Input::StopRequested), []);
    let slot = leased(0, false);
    assert_eq!(
        command(&mut machine, lease(round(1, 0), vec![slot.clone()])),
        [compute(round(1, 0), slot)]
    );
    let actions = command(&mut machine, end(1));
    assert_eq!(actions.last(), Some(&Action::Exit(WorkerExit::Left)));
}

#[test]
fn a_shutdown_ends_the_worker_and_is_what_a_leaving_one_waits_for() {
    let shutdown = || Command::Shutdown {
        reason: "done".into(),
    };
    let dismissed = WorkerExit::Dismissed {
        reason: "done".into(),
    };
    assert_eq!(
        command(&mut standby(), shutdown()),
        [Action::Cancel(Scope::Job), Action::Exit(dismissed)]
    );
    let mut leaving = member();
    leaving.step(Input::StopRequested);
    assert_eq!(
        command(&mut leaving, shutdown()),
        [Action::Cancel(Scope::Job), Action::Exit(WorkerExit::Left)]
    );
}

#[test]
fn a_refusal_of_a_report_changes_nothing() {
    let mut machine = member();
    let before = machine.clone();
    let reject = Command::Reject(weft_common::wire::Reject {
        round: round(1, 0),
        reason: weft_common::wire::RejectReason::Lease,
    });
    assert_eq!(command(&mut machine, reject), []);
    assert_eq!(machine, before);
}
