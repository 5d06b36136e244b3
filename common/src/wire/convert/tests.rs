use std::time::Duration;

use weft_proto::v1;

use super::WireError;
use crate::gpu_health::xid::Xid;
use crate::gpu_health::{GpuHealth, Slowdown};
use crate::id::{Digest, Epoch, LeaseId, Rank, SlotId, Step, Term, WorkerId};
use crate::plan::SlotPlan;
use crate::wire::*;

fn membership() -> Membership {
    Membership {
        job: "job-1".parse().unwrap(),
        term: Term(3),
        epoch: Epoch(4),
    }
}

fn checkpoint() -> CheckpointRef {
    CheckpointRef {
        dir: "/out/checkpoints/0000000006".into(),
        next_step: Step(6),
    }
}

fn lease() -> Lease {
    let plan = SlotPlan {
        slot: SlotId(2),
        rows: vec![7, 1],
        tokens: 90,
        supervised_tokens: 40,
    };
    Lease {
        round: membership().round(Step(5)),
        step_supervised: 80,
        slots: vec![LeasedSlot {
            lease: LeaseId(11),
            plan,
            staged: true,
        }],
    }
}

fn prepare() -> Prepare {
    let file = DatasetFile {
        name: "rows.bin".into(),
        bytes: 12,
    };
    Prepare {
        membership: membership(),
        recipe_json: "{}".into(),
        dataset: DatasetRef {
            digest: Digest::of(b"data"),
            dir: "/cache/data".into(),
            files: vec![file],
        },
        total_steps: 50,
        resume: Some(checkpoint()),
        joins: true,
    }
}

fn commands() -> Vec<Command> {
    let round = membership().round(Step(5));
    let member = Member {
        worker: WorkerId::from_number(9),
        rank: Rank(0),
        address: "10.0.0.1:4000".parse().unwrap(),
    };
    vec![
        Command::Prepare(prepare()),
        Command::FormEpoch(FormEpoch {
            membership: membership(),
            members: [member].into(),
            step: Step(5),
            keep: true,
        }),
        Command::FetchState(FetchState {
            membership: membership(),
            source: WorkerId::from_number(9),
            address: "10.0.0.1:4001".parse().unwrap(),
        }),
        Command::Restore(Restore {
            membership: membership(),
            checkpoint: Some(checkpoint()),
        }),
        Command::Settle(Settle {
            round: round.clone(),
            lease: LeaseId(11),
            verdict: Verdict::Merge,
        }),
        Command::Lease(lease()),
        Command::Seal(round.clone()),
        Command::Commit(Commit {
            round: round.clone(),
            update: Update::Skip,
        }),
        Command::TakeCheckpoint(TakeCheckpoint {
            membership: membership(),
            checkpoint: checkpoint(),
            world: 2,
        }),
        Command::Reject(Reject {
            round,
            reason: RejectReason::Lease,
        }),
        Command::EndJob(EndJob {
            membership: membership(),
            outcome: "succeeded".into(),
        }),
        Command::Shutdown {
            reason: "done".into(),
        },
    ]
}

fn outcome() -> SlotOutcome {
    SlotOutcome {
        loss_sum: 1.25,
        supervised: 40,
        tokens: 90,
        digest: Digest::of(b"slot"),
    }
}

fn holding() -> Holding {
    let engine = EngineInfo {
        device: "cpu".into(),
        adapter_params: 1,
        base_params: 2,
        model_digest: Digest::of(b"model"),
        state_digest: Digest::of(b"state"),
        scales_loss: false,
        memory: MemoryReport {
            base_bytes: 3,
            ..MemoryReport::default()
        },
    };
    Holding {
        membership: membership(),
        next_step: Step(5),
        engine,
        ring_port: 4000,
        peer_port: 4001,
        slots: vec![HeldSlot {
            slot: SlotId(2),
            outcome: outcome(),
        }],
        sum: Some(HeldSum {
            digest: Digest::of(b"sum"),
            health: SumHealth::Finite,
        }),
    }
}

fn events() -> Vec<Event> {
    let round = membership().round(Step(5));
    let elapsed = Duration::from_micros(1500);
    vec![
        Event::Heartbeat(Heartbeat {
            slots_computed: 3,
            peak_resident_bytes: 4,
            device_bytes: 5,
            gpu: Some(GpuHealth {
                age: Duration::from_millis(1500),
                xids: vec![Xid(63), Xid(79)],
                uncorrected_ecc: 6,
                remap_failed: true,
                remap_pending: false,
                slowdown: Slowdown {
                    hardware: true,
                    thermal: false,
                    power_brake: true,
                },
                celsius: Some(71),
                lost: true,
            }),
        }),
        Event::Heartbeat(Heartbeat::default()),
        Event::Prepared(holding()),
        Event::SyncFailed(SyncFailed {
            membership: membership(),
            source: WorkerId::from_number(9),
            message: "no route to host".into(),
        }),
        Event::SlotDone(SlotDone {
            round: round.clone(),
            slot: SlotId(2),
            lease: LeaseId(11),
            outcome: outcome(),
            elapsed,
        }),
        Event::Reduced(ReducedReport {
            round: round.clone(),
            digest: Digest::of(b"sum"),
            part: Digest::of(b"part"),
            health: SumHealth::Overflow,
            elapsed,
        }),
        Event::Applied(AppliedReport {
            round,
            grad_norm: 0.5,
            learning_rate: 2e-4,
            state_digest: Digest::of(b"state"),
            elapsed,
        }),
        Event::CheckpointWritten(CheckpointWritten {
            membership: membership(),
            checkpoint: checkpoint(),
            bytes: 100,
            elapsed,
        }),
        Event::CheckpointFailed(CheckpointFailed {
            membership: membership(),
            checkpoint: checkpoint(),
            kind: ErrorKind::Storage,
            message: "disk full".into(),
        }),
        Event::Failed(WorkerFailed {
            membership: membership(),
            kind: ErrorKind::Model,
            message: "no such file".into(),
            suspect: Some(WorkerId::from_number(9)),
        }),
        Event::Leave {
            reason: "SIGTERM".into(),
        },
    ]
}

#[test]
fn every_command_survives_the_wire() {
    for command in commands() {
        let wire = v1::Command::from(command.clone());
        assert_eq!(Command::try_from(wire), Ok(command));
    }
}

#[test]
fn every_event_survives_the_wire() {
    for event in events() {
        let wire = v1::WorkerEvent::from(event.clone());
        assert_eq!(Event::try_from(wire), Ok(event));
    }
}

#[test]
fn an_introduction_survives_the_wire() {
    let attach = Attach {
        worker: WorkerId::from_number(9),
        term: Term(3),
        session: 2,
        holding: Some(holding()),
    };
    assert_eq!(
        Attach::try_from(v1::Attach::from(attach.clone())),
        Ok(attach)
    );
}

#[test]
fn a_message_without_its_fence_is_refused() {
    let seal = v1::command::Command::Seal(v1::Seal { round: None });
    let refused = Command::try_from(v1::Command {
        command: Some(seal),
    });
    assert_eq!(refused, Err(WireError::Missing("round")));
}

#[test]
fn a_dataset_file_that_could_leave_its_folder_is_refused() {
    for name in ["", "../rows.bin", "a/b", ".."] {
        let mut wire = v1::Prepare::from(prepare());
        wire.dataset.as_mut().unwrap().files[0].name = name.into();
        assert!(Prepare::try_from(wire).is_err(), "{name}");
    }
}

#[test]
fn a_refused_hello_keeps_both_versions_in_its_words() {
    let refusal = Refusal::WeftVersion {
        worker: "0.0.9".into(),
        coordinator: "0.1.0".into(),
    };
    let heard = registered(register_reply(Err(refusal)))
        .unwrap()
        .unwrap_err();
    assert!(heard.message.contains("0.0.9") && heard.message.contains("0.1.0"));
}
