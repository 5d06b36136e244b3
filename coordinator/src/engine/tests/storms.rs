//! Whatever comes in, in whatever order, the engine neither panics nor breaks an invariant.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_common::id::{Epoch, LeaseId, SlotId, Step, Term};
use weft_common::wire::{
    AppliedReport, CheckpointFailed, CheckpointWritten, Command, ErrorKind, HeldSlot, Membership,
    Round, SlotDone, SyncFailed, WorkerFailed,
};

use super::super::*;
use super::fixture::*;

/// Four numbers that stand for something that happens.
type Dice = (u8, u8, u8, u8);

/// Workers that there are; one more is never heard of.
const WORKERS: u8 = 5;

/// An engine in a storm of events: what honest workers would say, now or later or twice, and what nobody would.
struct Storm {
    fixture: Fixture,
    /// What workers would say to the commands they had.
    honest: Vec<(WorkerId, wire::Event)>,
    /// The newest session of each worker.
    sessions: BTreeMap<WorkerId, u32>,
    /// Records that a working disk would take.
    records: Vec<Step>,
    /// Steps of each job that were recorded, in order.
    committed: BTreeMap<JobId, Vec<Step>>,
}

impl Storm {
    fn new() -> Self {
        let mut storm = Self {
            fixture: Fixture::new(),
            honest: Vec::new(),
            sessions: BTreeMap::new(),
            records: Vec::new(),
            committed: BTreeMap::new(),
        };
        for name in ["job-1", "job-2"] {
            storm.feed(Event::Submitted(JobTerms {
                id: name.parse().unwrap(),
                ..terms(2)
            }));
        }
        for number in 1..=3 {
            storm.come(number, 0, 1);
        }
        storm
    }

    fn feed(&mut self, event: Event) {
        for action in self.fixture.feed(event) {
            match action {
                Action::Send { to, command } => {
                    let said = answer(command);
                    self.honest
                        .extend(said.into_iter().map(|event| (to, event)));
                }
                Action::AppendLedger { job, record } => {
                    self.records.push(record.step);
                    let slots: Vec<SlotId> = record.slots.iter().map(|slot| slot.slot).collect();
                    assert_eq!(slots, (0..4).map(SlotId).collect::<Vec<_>>());
                    let steps = self.committed.entry(job).or_default();
                    assert_eq!(
                        steps.last().map(|last| last.next()).unwrap_or(Step(0)),
                        record.step
                    );
                    steps.push(record.step);
                }
                Action::RewindLedger { job, first_step } => {
                    let steps = self.committed.entry(job).or_default();
                    steps.retain(|step| *step < first_step);
                }
                Action::AnswerHello(_)
                | Action::AnswerSubmit(_)
                | Action::PrepareData(_)
                | Action::Hangup(_)
                | Action::Notify { .. }
                | Action::Stop => {}
            }
        }
        let broken = invariants::violations(&self.fixture.engine);
        assert_eq!(broken, Vec::<String>::new());
    }

    fn roll(&mut self, (kind, a, b, c): Dice) {
        let number = u128::from(a % (WORKERS + 1));
        let from = worker(number);
        let session = u32::from(b % 3);
        let job: JobId = if c.is_multiple_of(4) {
            "job-2"
        } else {
            "job-1"
        }
        .parse()
        .unwrap();
        let step = Step(u64::from(b % 4));
        match kind % 32 {
            0..=11 => self.say_something_honest(b, c),
            12..=14 if number > 0 => self.come(number, session, c),
            15 => self.feed(Event::SessionLost {
                worker: from,
                session,
                cause: "reset".into(),
            }),
            16..=18 => self.feed(Event::DataPrepared {
                job,
                data: data(6, 4),
                continued: None,
            }),
            19..=21 => {
                let step = self
                    .records
                    .pop()
                    .filter(|_| !c.is_multiple_of(8))
                    .unwrap_or(step);
                self.feed(Event::LedgerDurable { job, step });
            }
            22..=26 => {
                let event = forged(&job, (a, b, c));
                self.feed(Event::Reported {
                    worker: from,
                    session,
                    event,
                });
            }
            27 => {
                self.fixture.now = self
                    .fixture
                    .now
                    .plus(Duration::from_millis(u64::from(c) * 20));
                self.feed(Event::Tick);
            }
            28 => self.feed(Event::ScaleRequested {
                job,
                workers: u32::from(c % 6),
            }),
            29 => self.feed(Event::DrainRequested(from)),
            30 => self.seldom(job, step, c),
            _ => self.feed(Event::Tick),
        }
    }

    fn come(&mut self, number: u128, session: u32, c: u8) {
        let from = worker(number);
        self.sessions.insert(from, session);
        self.feed(Event::Registered {
            hello: wire::Hello {
                session,
                ..hello(number)
            },
            ip: std::net::IpAddr::from([127, 0, 0, 1]),
        });
        let brings = c
            .is_multiple_of(3)
            .then(|| Box::new(holding(u64::from(c / 3 % 4), b"start")));
        self.feed(Event::Attached {
            worker: from,
            session,
            holding: brings,
        });
    }

    /// What ends much of it.
    fn seldom(&mut self, job: JobId, step: Step, c: u8) {
        let message = "it went wrong".to_owned();
        self.feed(match c % 16 {
            0 => Event::CancelRequested(job),
            1 => Event::DataFailed { job, message },
            2 => Event::LedgerFailed { job, step, message },
            3 => Event::LedgerFenced { job, by: Term(9) },
            4 => Event::ShutdownRequested { reason: message },
            _ => Event::Tick,
        });
    }

    fn say_something_honest(&mut self, b: u8, c: u8) {
        if self.honest.is_empty() {
            return;
        }
        let at = if c.is_multiple_of(4) {
            usize::from(b) % self.honest.len()
        } else {
            0
        };
        let (worker, event) = self.honest[at].clone();
        if c % 16 != 1 {
            self.honest.remove(at);
        }
        let session = self.sessions.get(&worker).copied().unwrap_or(0);
        self.feed(Event::Reported {
            worker,
            session,
            event,
        });
    }
}

/// What an honest worker says to a command.
fn answer(command: Command) -> Vec<wire::Event> {
    match command {
        Command::Prepare(prepare) => vec![wire::Event::Prepared(wire::Holding {
            membership: prepare.membership,
            ..holding(0, b"start")
        })],
        Command::Lease(lease) => {
            let slots = lease.slots.into_iter();
            slots
                .map(|slot| of_round(slot_done(0, &slot), &lease.round))
                .collect()
        }
        Command::Seal(round) => vec![of_round(reduced(0, SUM), &round)],
        Command::Commit(commit) => vec![of_round(applied(0, b"after"), &commit.round)],
        Command::TakeCheckpoint(take) => vec![wire::Event::CheckpointWritten(CheckpointWritten {
            membership: take.membership,
            checkpoint: take.checkpoint,
            bytes: 1,
            elapsed: Duration::ZERO,
        })],
        Command::FetchState(fetch) => vec![wire::Event::SyncFailed(SyncFailed {
            membership: fetch.membership,
            source: fetch.source,
            message: "no route".into(),
        })],
        Command::FormEpoch(_)
        | Command::Restore(_)
        | Command::Settle(_)
        | Command::Reject(_)
        | Command::EndJob(_)
        | Command::Shutdown { .. } => Vec::new(),
    }
}

fn of_round(mut event: wire::Event, round: &Round) -> wire::Event {
    match &mut event {
        wire::Event::SlotDone(report) => report.round = round.clone(),
        wire::Event::Reduced(report) => report.round = round.clone(),
        wire::Event::Applied(report) => report.round = round.clone(),
        wire::Event::Heartbeat(_)
        | wire::Event::Prepared(_)
        | wire::Event::SyncFailed(_)
        | wire::Event::CheckpointWritten(_)
        | wire::Event::CheckpointFailed(_)
        | wire::Event::Failed(_)
        | wire::Event::Leave { .. } => {}
    }
    event
}

/// A report with a job, term, epoch, step, slot, lease or size that may be anybody's.
fn forged(job: &JobId, (a, b, c): (u8, u8, u8)) -> wire::Event {
    let membership = Membership {
        job: job.clone(),
        term: if c.is_multiple_of(8) { Term(3) } else { TERM },
        epoch: Epoch(u64::from(b % 5)),
    };
    let round = membership.round(Step(u64::from(a % 5)));
    let message = "it went wrong".to_owned();
    let checkpoint = terms(1).checkpoint_at(Step(u64::from(b % 7)));
    let kind = if b.is_multiple_of(2) {
        ErrorKind::Collective
    } else {
        ErrorKind::Internal
    };
    let slot = SlotId(u32::from(b % 6));
    let outcome = wire::SlotOutcome {
        loss_sum: f64::NAN,
        supervised: u64::from(c % 8),
        tokens: u64::from(c % 16),
        digest: weft_common::id::Digest([c; 32]),
    };
    match c % 10 {
        0 | 1 => wire::Event::SlotDone(SlotDone {
            round,
            slot,
            lease: LeaseId(u64::from(a)),
            outcome,
            elapsed: Duration::from_secs(u64::from(c)),
        }),
        2 => of_round(reduced(0, outcome.digest), &round),
        3 => wire::Event::Applied(AppliedReport {
            round,
            grad_norm: f64::INFINITY,
            learning_rate: 0.0,
            state_digest: outcome.digest,
            elapsed: Duration::ZERO,
        }),
        4 => wire::Event::Prepared(wire::Holding {
            membership,
            slots: vec![HeldSlot { slot, outcome }; usize::from(a % 3)],
            ..holding(u64::from(b % 7), b"start")
        }),
        5 => wire::Event::SyncFailed(SyncFailed {
            membership,
            source: worker(u128::from(a)),
            message,
        }),
        6 => wire::Event::CheckpointWritten(CheckpointWritten {
            membership,
            checkpoint,
            bytes: 1,
            elapsed: Duration::ZERO,
        }),
        7 => wire::Event::CheckpointFailed(CheckpointFailed {
            membership,
            checkpoint,
            kind,
            message,
        }),
        8 => wire::Event::Failed(WorkerFailed {
            membership,
            kind,
            message,
            suspect: Some(worker(u128::from(a % 6))),
        }),
        _ => wire::Event::Leave { reason: message },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_event_whatever_its_job_term_epoch_step_lease_or_sender_breaks_an_invariant(
        dice in proptest::collection::vec(any::<Dice>(), 1..400),
    ) {
        let mut storm = Storm::new();
        for dice in dice {
            storm.roll(dice);
        }
    }
}
