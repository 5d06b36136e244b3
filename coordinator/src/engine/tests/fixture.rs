//! An engine, its workers and the answers they give.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use weft_common::data::RowStat;
use weft_common::id::{Digest, Epoch, JobId, Step, Term, WorkerId};
use weft_common::plan::{LrSchedule, PlanSpec, SlotPlan, StepPlanner};
use weft_common::recipe::TrainingSection;
use weft_common::time::Timestamp;
use weft_common::wire::{
    self, AppliedReport, CheckpointWritten, Command, DatasetRef, EngineInfo, Hello, Holding,
    LeasedSlot, Membership, MemoryReport, PROTOCOL_VERSION, ReducedReport, RejectReason, Round,
    SlotDone, SlotOutcome, SumHealth, WEFT_VERSION, WorkerFacts,
};

use super::super::{
    Action, Engine, Event, JobOutcome, JobState, JobTerms, Limits, Needs, Notice, OnNonFinite, Run,
    RunData,
};

pub(super) const TERM: Term = Term(7);

/// The digest of a gradient of zeros, which every micro-batch here has, and of any sum of them.
pub(super) const SUM: Digest = Digest([0; 32]);

pub(super) fn job_id() -> JobId {
    "job-1".parse().unwrap()
}

pub(super) fn worker(number: u128) -> WorkerId {
    WorkerId::from_number(number)
}

pub(super) fn terms(workers: u32) -> JobTerms {
    JobTerms {
        id: job_id(),
        recipe_json: "{}".into(),
        priority: 0,
        workers,
        gang: workers,
        needs: Needs::default(),
        min_workers: 1,
        max_workers: 8,
        form_within: Duration::from_secs(60),
        save_steps: 2,
        checkpoints_dir: "/out".into(),
        on_non_finite: OnNonFinite::Fail,
        resume: None,
        continued: None,
    }
}

/// Steps of `slots` slots of one row each.
pub(super) fn data(steps: u64, slots: u32) -> Arc<RunData> {
    let spec = PlanSpec {
        data_seed: 1,
        rows_per_step: slots,
        epochs: 1.0,
        max_steps: Some(steps),
        slot_tokens: 10,
        min_slots: slots,
    };
    let stat = RowStat {
        tokens: 10,
        supervised: 4,
    };
    let planner = StepPlanner::new(spec, Arc::from(vec![stat; slots as usize * 4])).unwrap();
    Arc::new(RunData {
        dataset: DatasetRef {
            digest: Digest::of(b"data"),
            dir: "/cache/data".into(),
            files: Vec::new(),
        },
        schedule: LrSchedule::new(&TrainingSection::default(), steps),
        planner,
    })
}

/// An engine whose clock advances a millisecond per event.
pub(super) struct Fixture {
    pub(super) engine: Engine,
    pub(super) now: Timestamp,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self {
            engine: Engine::new(TERM, Limits::default()),
            now: Timestamp::ZERO,
        }
    }

    /// A job of `steps` steps of `slots` slots, whose `workers` workers have just formed an epoch. Gives the actions
    /// of the last event.
    pub(super) fn running(workers: u32, steps: u64, slots: u32) -> (Self, Vec<Action>) {
        let mut fixture = Self::new();
        fixture.feed(Event::Submitted(terms(workers)));
        for number in 1..=workers.into() {
            fixture.attach(number);
        }
        let data = data(steps, slots);
        fixture.feed(Event::DataPrepared {
            job: job_id(),
            data,
            continued: None,
        });
        let mut actions = Vec::new();
        for number in 1..=workers.into() {
            actions = fixture.report(number, prepared(b"start"));
        }
        (fixture, actions)
    }

    pub(super) fn feed(&mut self, event: Event) -> Vec<Action> {
        self.now = self.now.plus(Duration::from_millis(1));
        self.engine.step(event, self.now)
    }

    pub(super) fn wait(&mut self, wait: Duration) -> Vec<Action> {
        self.now = self.now.plus(wait);
        self.feed(Event::Tick)
    }

    pub(super) fn attach(&mut self, number: u128) -> Vec<Action> {
        self.come(number, 0, None)
    }

    /// A session of a worker, which may bring something with it.
    pub(super) fn come(
        &mut self,
        number: u128,
        session: u32,
        holding: Option<Holding>,
    ) -> Vec<Action> {
        self.feed(Event::Registered {
            hello: Hello {
                session,
                ..hello(number)
            },
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        self.feed(Event::Attached {
            worker: worker(number),
            session,
            holding: holding.map(Box::new),
        })
    }

    /// The first session of a worker ends.
    pub(super) fn lose(&mut self, number: u128) -> Vec<Action> {
        self.feed(Event::SessionLost {
            worker: worker(number),
            session: 0,
            cause: "connection reset".into(),
        })
    }

    pub(super) fn report(&mut self, number: u128, event: wire::Event) -> Vec<Action> {
        self.feed(Event::Reported {
            worker: worker(number),
            session: 0,
            event,
        })
    }

    pub(super) fn durable(&mut self, step: u64) -> Vec<Action> {
        self.feed(Event::LedgerDurable {
            job: job_id(),
            step: Step(step),
        })
    }

    pub(super) fn state(&self) -> &JobState {
        &self.engine.job(&job_id()).unwrap().state
    }

    pub(super) fn run(&self) -> &Run {
        match self.state() {
            JobState::Active(run) => run,
            other => panic!("the job is not active: {other:?}"),
        }
    }

    pub(super) fn outcome(&self) -> Option<&JobOutcome> {
        match self.state() {
            JobState::Ended(outcome) => Some(outcome),
            JobState::Queued | JobState::Preparing | JobState::Active(_) => None,
        }
    }
}

pub(super) fn hello(number: u128) -> Hello {
    Hello {
        worker: worker(number),
        weft_version: WEFT_VERSION.into(),
        protocol_version: PROTOCOL_VERSION,
        session: 0,
        facts: WorkerFacts {
            host: format!("host-{number}"),
            device: "cpu".into(),
            memory_bytes: 0,
            labels: BTreeMap::new(),
        },
    }
}

pub(super) fn membership(epoch: u64) -> Membership {
    Membership {
        job: job_id(),
        term: TERM,
        epoch: Epoch(epoch),
    }
}

pub(super) fn round(step: u64) -> Round {
    membership(1).round(Step(step))
}

/// What a worker holds before `next_step`, with nothing in its accumulator.
pub(super) fn holding(next_step: u64, state: &[u8]) -> Holding {
    Holding {
        membership: membership(0),
        next_step: Step(next_step),
        engine: EngineInfo {
            device: "cpu".into(),
            adapter_params: 1,
            base_params: 1,
            model_digest: Digest::of(b"model"),
            state_digest: Digest::of(state),
            scales_loss: false,
            memory: MemoryReport::default(),
        },
        ring_port: 4000,
        peer_port: 4001,
        slots: Vec::new(),
        sum: None,
    }
}

pub(super) fn prepared(state: &[u8]) -> wire::Event {
    wire::Event::Prepared(holding(0, state))
}

pub(super) fn outcome(plan: &SlotPlan) -> SlotOutcome {
    SlotOutcome {
        loss_sum: 8.0,
        supervised: plan.supervised_tokens,
        tokens: plan.tokens,
        digest: SUM,
    }
}

/// A report of a slot that was granted in epoch 1.
pub(super) fn slot_done(step: u64, slot: &LeasedSlot) -> wire::Event {
    wire::Event::SlotDone(SlotDone {
        round: round(step),
        slot: slot.plan.slot,
        lease: slot.lease,
        outcome: outcome(&slot.plan),
        elapsed: Duration::ZERO,
    })
}

pub(super) fn reduced(step: u64, sum: Digest) -> wire::Event {
    wire::Event::Reduced(ReducedReport {
        round: round(step),
        digest: sum,
        part: SUM,
        health: SumHealth::Finite,
        elapsed: Duration::ZERO,
    })
}

pub(super) fn applied(step: u64, state: &[u8]) -> wire::Event {
    wire::Event::Applied(AppliedReport {
        round: round(step),
        grad_norm: 0.5,
        learning_rate: 1e-4,
        state_digest: Digest::of(state),
        elapsed: Duration::ZERO,
    })
}

pub(super) fn written(next_step: u64) -> wire::Event {
    wire::Event::CheckpointWritten(CheckpointWritten {
        membership: membership(1),
        checkpoint: terms(1).checkpoint_at(Step(next_step)),
        bytes: 10,
        elapsed: Duration::ZERO,
    })
}

/// The slots granted by these actions, to whom.
pub(super) fn granted(actions: &[Action]) -> Vec<(WorkerId, LeasedSlot)> {
    let mut granted = Vec::new();
    for action in actions {
        let Action::Send { to, command } = action else {
            continue;
        };
        let lease = match command {
            Command::Lease(lease) => Some(lease),
            _ => None,
        };
        let slots = lease.into_iter().flat_map(|lease| lease.slots.clone());
        granted.extend(slots.map(|slot| (*to, slot)));
    }
    granted
}

/// The reasons for which these actions refuse reports.
pub(super) fn rejections(actions: &[Action]) -> Vec<RejectReason> {
    let reason = |action: &Action| match action {
        Action::Send {
            command: Command::Reject(reject),
            ..
        } => Some(reject.reason),
        _ => None,
    };
    actions.iter().filter_map(reason).collect()
}

/// The commands of these actions, to whom.
pub(super) fn commands(actions: &[Action]) -> Vec<(WorkerId, Command)> {
    let sent = |action: &Action| match action {
        Action::Send { to, command } => Some((*to, command.clone())),
        _ => None,
    };
    actions.iter().filter_map(sent).collect()
}

/// The memberships that these actions form: to whom, which epoch, how many members, whether accumulators are kept.
pub(super) fn formed(actions: &[Action]) -> Vec<(WorkerId, u64, usize, bool)> {
    let epoch = |(to, command): (WorkerId, Command)| match command {
        Command::FormEpoch(form) => {
            let (epoch, world) = (form.membership.epoch.0, form.members.len());
            Some((to, epoch, world, form.keep))
        }
        _ => None,
    };
    commands(actions).into_iter().filter_map(epoch).collect()
}

/// What people are told of the fixture's job.
pub(super) fn tells(notice: Notice) -> Action {
    Action::Notify {
        job: Some(job_id()),
        notice,
    }
}
