use weft_common::id::{Digest, Epoch, LeaseId, Rank, SlotId, Term, WorkerId};
use weft_common::plan::SlotPlan;
use weft_common::wire::{
    CheckpointRef, EndJob, EngineInfo, LeasedSlot, Member, MemoryReport, Prepared, RejectReason,
    Update,
};

use super::*;

fn membership(epoch: u64) -> Membership {
    Membership {
        job: "job-1".parse().unwrap(),
        term: Term(1),
        epoch: Epoch(epoch),
    }
}

fn round(step: u64) -> Round {
    membership(1).round(Step(step))
}

fn lease(step: u64) -> Lease {
    Lease {
        round: round(step),
        step_supervised: 8,
        slots: vec![leased()],
    }
}

fn leased() -> LeasedSlot {
    LeasedSlot {
        lease: LeaseId(5),
        plan: SlotPlan {
            slot: SlotId(0),
            rows: vec![3],
            tokens: 10,
            supervised_tokens: 8,
        },
    }
}

fn compute(step: u64) -> Action {
    Action::Train(Order::Compute {
        round: round(step),
        step_supervised: 8,
        slot: leased(),
    })
}

fn prepare() -> Prepare {
    Prepare {
        membership: membership(0),
        recipe_json: "{}".into(),
        dataset: DatasetRef {
            digest: Digest::of(b"data"),
            dir: "/data".into(),
            files: Vec::new(),
        },
        total_steps: 9,
        resume: None,
    }
}

fn prepared() -> Event {
    Event::Prepared(Prepared {
        membership: membership(0),
        next_step: Step(0),
        engine: EngineInfo {
            device: "cpu".into(),
            adapter_params: 1,
            base_params: 1,
            model_digest: Digest::of(b"model"),
            state_digest: Digest::of(b"state"),
            memory: MemoryReport::default(),
        },
        ring_port: 4000,
    })
}

fn form() -> FormEpoch {
    FormEpoch {
        membership: membership(1),
        members: vec![Member {
            worker: WorkerId::from_number(1),
            rank: Rank(0),
            address: "127.0.0.1:4000".parse().unwrap(),
        }],
        step: Step(0),
    }
}

fn end() -> Command {
    Command::EndJob(EndJob {
        membership: membership(0),
        outcome: "succeeded".into(),
    })
}

fn command(machine: &mut Machine, command: Command) -> Vec<Action> {
    machine.step(Input::Command(command))
}

fn done(machine: &mut Machine, event: Event) -> Vec<Action> {
    machine.step(Input::Answer(Answer::Done(event)))
}

/// A member before step 0.
fn member() -> Machine {
    let mut machine = Machine::new();
    command(&mut machine, Command::Prepare(prepare()));
    machine.step(Input::Dataset {
        job: membership(0).job,
        found: Ok("/data".into()),
    });
    done(&mut machine, prepared());
    command(&mut machine, Command::FormEpoch(form()));
    done(&mut machine, Event::EpochReady(membership(1)));
    machine
}

#[test]
fn a_job_is_fetched_loaded_and_joined() {
    let mut machine = Machine::new();
    let job = membership(0).job;
    let fetch = Action::Fetch {
        job: job.clone(),
        dataset: prepare().dataset,
    };
    assert_eq!(command(&mut machine, Command::Prepare(prepare())), [fetch]);
    let found = Ok("/data".into());
    let load = Action::Train(Order::Load(Box::new(Loading {
        prepare: prepare(),
        dataset_dir: "/data".into(),
    })));
    assert_eq!(machine.step(Input::Dataset { job, found }), [load]);
    assert_eq!(done(&mut machine, prepared()), [Action::Send(prepared())]);
    let join = Action::Train(Order::Join(form()));
    assert_eq!(command(&mut machine, Command::FormEpoch(form())), [join]);
}

#[test]
fn the_leases_on_a_commit_follow_its_update() {
    let mut machine = member();
    assert_eq!(
        command(&mut machine, Command::Lease(lease(0))),
        [compute(0)]
    );
    let reduce = Action::Train(Order::Reduce(round(0)));
    assert_eq!(command(&mut machine, Command::Seal(round(0))), [reduce]);
    let commit = Command::Commit(Commit {
        round: round(0),
        update: Update::Apply,
        next: Some(lease(1)),
    });
    let apply = Action::Train(Order::Apply {
        round: round(0),
        update: Update::Apply,
    });
    assert_eq!(command(&mut machine, commit.clone()), [apply, compute(1)]);
    assert_eq!(
        command(&mut machine, commit),
        [],
        "no step is applied twice"
    );
}

#[test]
fn commands_of_another_step_or_epoch_are_dropped() {
    let mut machine = member();
    assert_eq!(command(&mut machine, Command::Seal(round(1))), []);
    let stale = membership(0).round(Step(0));
    assert_eq!(command(&mut machine, Command::Seal(stale)), []);
    let take = Command::TakeCheckpoint(TakeCheckpoint {
        membership: membership(1),
        checkpoint: CheckpointRef {
            dir: "/out".into(),
            next_step: Step(4),
        },
        world: 1,
    });
    assert_eq!(command(&mut machine, take), []);
}

#[test]
fn a_refused_report_drops_the_accumulator_and_is_told() {
    let mut machine = member();
    let reject = Reject {
        round: round(0),
        reason: RejectReason::Lease,
    };
    let actions = command(&mut machine, Command::Reject(reject));
    assert_eq!(actions[0], Action::Train(Order::DropAccumulator));
    assert!(
        matches!(&actions[1], Action::Send(Event::Failed(failed)) if failed.membership == membership(1))
    );
}

#[test]
fn the_end_of_a_job_unloads_it_and_its_late_answers_are_dropped() {
    let mut machine = member();
    let expected = [Action::CancelJob, Action::Train(Order::Unload)];
    assert_eq!(command(&mut machine, end()), expected);
    assert_eq!(done(&mut machine, Event::EpochReady(membership(1))), []);
    let again = command(&mut machine, Command::Prepare(prepare()));
    assert!(matches!(again[..], [Action::Fetch { .. }]));
}

#[test]
fn a_member_that_is_told_to_stop_works_on_until_its_job_ends() {
    let mut machine = member();
    let asked = machine.step(Input::StopRequested);
    assert!(matches!(asked[..], [Action::Send(Event::Leave { .. })]));
    assert_eq!(machine.step(Input::StopRequested), []);
    assert_eq!(
        command(&mut machine, Command::Lease(lease(0))),
        [compute(0)]
    );
    let actions = command(&mut machine, end());
    assert_eq!(actions.last(), Some(&Action::Exit(WorkerExit::Left)));
}

#[test]
fn the_end_of_the_session_is_the_end_of_the_worker() {
    let lost = |machine: &mut Machine| machine.step(Input::SessionLost("reset".into()));
    let exit = WorkerExit::CoordinatorLost {
        message: "reset".into(),
    };
    assert_eq!(lost(&mut member()), [Action::CancelJob, Action::Exit(exit)]);
    let mut leaving = member();
    leaving.step(Input::StopRequested);
    assert_eq!(
        lost(&mut leaving),
        [Action::CancelJob, Action::Exit(WorkerExit::Left)]
    );
}
