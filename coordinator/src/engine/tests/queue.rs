//! Several jobs on one pool of workers.

use std::collections::BTreeMap;

use weft_common::id::{JobId, Step, WorkerId};
use weft_common::wire::Command;

use super::super::fleet::LONGEST_KEPT;
use super::super::*;
use super::fixture::*;

fn named(name: &str, min: u32, wanted: u32) -> JobTerms {
    JobTerms {
        id: name.parse().unwrap(),
        workers: wanted,
        gang: min,
        min_workers: min,
        ..terms(wanted)
    }
}

/// The state of a job, in a word.
fn stands(fixture: &Fixture, name: &str) -> &'static str {
    let job = fixture.engine.job(&name.parse().unwrap()).unwrap();
    match &job.state {
        JobState::Queued => "queued",
        JobState::Preparing => "preparing",
        JobState::Active(run) if run.live().is_empty() => "waiting",
        JobState::Active(_) => "running",
        JobState::Ended(_) => "over",
    }
}

fn live(fixture: &Fixture, name: &str) -> usize {
    let job = fixture.engine.job(&name.parse().unwrap()).unwrap();
    match &job.state {
        JobState::Active(run) => run.live().len(),
        JobState::Queued | JobState::Preparing | JobState::Ended(_) => 0,
    }
}

/// Everybody does what it is told, until nobody has anything to do.
struct World {
    fixture: Fixture,
    /// Steps that are left to commit before everybody stops answering commits, so that jobs stay where they are.
    commits: usize,
}

impl World {
    fn new(workers: u128) -> Self {
        let mut fixture = Fixture::new();
        for number in 1..=workers {
            fixture.attach(number);
        }
        Self {
            fixture,
            commits: usize::MAX,
        }
    }

    fn submit(&mut self, terms: JobTerms) {
        let actions = self.fixture.feed(Event::Submitted(terms));
        self.settle(actions);
    }

    fn feed(&mut self, event: Event) {
        let actions = self.fixture.feed(event);
        self.settle(actions);
    }

    fn settle(&mut self, actions: Vec<Action>) {
        let mut waiting: Vec<Action> = actions;
        while !waiting.is_empty() {
            let action = waiting.remove(0);
            for event in self.answers(action) {
                waiting.extend(self.fixture.feed(event));
            }
        }
    }

    fn answers(&mut self, action: Action) -> Vec<Event> {
        match action {
            Action::PrepareData(job) => vec![Event::DataPrepared {
                job,
                data: data(1000, 4),
                continued: None,
            }],
            Action::AppendLedger { job, record } if self.commits > 0 => {
                self.commits -= 1;
                vec![Event::LedgerDurable {
                    job,
                    step: record.step,
                }]
            }
            Action::Send { to, command } => {
                let events = obey(command);
                let event = |event| Event::Reported {
                    worker: to,
                    session: 0,
                    event,
                };
                events.into_iter().map(event).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn obey(command: Command) -> Vec<wire::Event> {
    match command {
        Command::Prepare(prepare) => {
            let step = prepare.resume.map_or(0, |from| from.next_step.0);
            let mut held = holding(step, &step.to_le_bytes());
            held.membership = prepare.membership;
            vec![wire::Event::Prepared(held)]
        }
        Command::FetchState(fetch) => {
            vec![wire::Event::SyncFailed(wire::SyncFailed {
                membership: fetch.membership,
                source: fetch.source,
                message: "not in this test".into(),
            })]
        }
        Command::Lease(lease) => lease
            .slots
            .iter()
            .map(|slot| {
                let wire::Event::SlotDone(mut done) = slot_done(0, slot) else {
                    unreachable!("that is what it makes");
                };
                done.round = lease.round.clone();
                wire::Event::SlotDone(done)
            })
            .collect(),
        Command::Seal(round) => {
            let wire::Event::Reduced(mut report) = reduced(0, SUM) else {
                unreachable!("that is what it makes");
            };
            report.round = round;
            vec![wire::Event::Reduced(report)]
        }
        Command::Commit(commit) => {
            let state = commit.round.step.next().0.to_le_bytes();
            let wire::Event::Applied(mut report) = applied(0, &state) else {
                unreachable!("that is what it makes");
            };
            report.round = commit.round;
            vec![wire::Event::Applied(report)]
        }
        Command::TakeCheckpoint(take) => {
            vec![wire::Event::CheckpointWritten(wire::CheckpointWritten {
                membership: take.membership,
                checkpoint: take.checkpoint,
                bytes: 1,
                elapsed: std::time::Duration::ZERO,
            })]
        }
        _ => Vec::new(),
    }
}

#[test]
fn two_jobs_share_the_pool_and_nobody_works_for_both() {
    let mut world = World::new(4);
    world.commits = 0;
    world.submit(named("first", 1, 2));
    world.submit(named("second", 1, 2));
    assert_eq!(
        (
            live(&world.fixture, "first"),
            live(&world.fixture, "second")
        ),
        (2, 2)
    );
}

#[test]
fn a_job_waits_for_its_turn_and_starts_when_the_one_before_ends() {
    let mut world = World::new(2);
    world.commits = 0;
    world.submit(named("first", 2, 2));
    world.submit(named("second", 2, 2));
    assert_eq!(stands(&world.fixture, "second"), "queued");
    world.commits = 3;
    let id: JobId = "first".parse().unwrap();
    world.feed(Event::CancelRequested(id.clone()));
    world.feed(Event::LedgerDurable {
        job: id,
        step: Step(0),
    });
    assert_eq!(stands(&world.fixture, "first"), "over");
    assert_eq!(live(&world.fixture, "second"), 2);
}

#[test]
fn the_first_in_order_waits_with_its_reason_shown_even_without_workers() {
    let mut world = World::new(0);
    world.submit(named("only", 2, 2));
    assert_eq!(stands(&world.fixture, "only"), "waiting");
}

#[test]
fn a_higher_priority_shrinks_a_running_job_at_the_end_of_its_step_and_not_before() {
    let mut world = World::new(4);
    world.commits = 0;
    world.submit(named("low", 1, 4));
    assert_eq!(live(&world.fixture, "low"), 4);
    let urgent = JobTerms {
        priority: 10,
        ..named("urgent", 2, 3)
    };
    world.submit(urgent);
    assert_eq!(
        live(&world.fixture, "low"),
        4,
        "the step in hand is finished first"
    );
    world.commits = 1;
    let id: JobId = "low".parse().unwrap();
    world.feed(Event::LedgerDurable {
        job: id,
        step: Step(0),
    });
    assert_eq!(
        (live(&world.fixture, "low"), live(&world.fixture, "urgent")),
        (1, 3)
    );
}

#[test]
fn a_job_grows_when_workers_are_free() {
    let mut world = World::new(1);
    world.commits = 0;
    world.submit(named("only", 1, 3));
    assert_eq!(live(&world.fixture, "only"), 1);
    for number in [2, 3, 4] {
        let actions = world.fixture.attach(number);
        world.settle(actions);
    }
    let wanted = world.fixture.engine.job(&"only".parse().unwrap()).unwrap();
    let JobState::Active(run) = &wanted.state else {
        panic!("{:?}", wanted.state);
    };
    assert_eq!(
        run.live().len() + run.candidates.len(),
        3,
        "and no further than it wants"
    );
}

#[test]
fn only_workers_that_suit_a_job_are_given_to_it() {
    let mut world = World::new(2);
    let needs = Needs {
        memory_bytes: 0,
        labels: BTreeMap::from([("gpu".to_owned(), "h200".to_owned())]),
    };
    world.submit(JobTerms {
        needs,
        ..named("picky", 1, 2)
    });
    assert_eq!(live(&world.fixture, "picky"), 0);
    assert_eq!(
        world
            .fixture
            .engine
            .workers()
            .filter(|(_, w)| w.job.is_some())
            .count(),
        0
    );
}

#[test]
fn a_drained_worker_hands_over_and_is_dismissed() {
    let mut world = World::new(2);
    world.commits = 0;
    world.submit(named("only", 1, 2));
    world.feed(Event::DrainRequested(worker(2)));
    assert_eq!(live(&world.fixture, "only"), 2);
    world.commits = 1;
    world.feed(Event::LedgerDurable {
        job: "only".parse().unwrap(),
        step: Step(0),
    });
    let left: Vec<WorkerId> = world
        .fixture
        .engine
        .workers()
        .filter(|(_, record)| record.job.is_some())
        .map(|(worker, _)| worker)
        .collect();
    assert_eq!(left, [worker(1)]);
}

#[test]
fn a_job_that_is_scaled_down_before_it_starts_begins_with_fewer() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(terms(4)));
    for number in 1..=2 {
        fixture.attach(number);
    }
    fixture.feed(Event::DataPrepared {
        job: job_id(),
        data: data(3, 4),
        continued: None,
    });
    fixture.feed(Event::ScaleRequested {
        job: job_id(),
        workers: 2,
    });
    fixture.report(1, prepared(b"start"));
    let actions = fixture.report(2, prepared(b"start"));
    let worlds: Vec<usize> = formed(&actions)
        .iter()
        .map(|(_, _, world, _)| *world)
        .collect();
    assert_eq!(worlds, [2, 2]);
}

/// What a worker holds of the job called `name`, after so many steps.
fn held_of(name: &str, steps: u64) -> wire::Holding {
    let mut held = holding(steps, &steps.to_le_bytes());
    held.membership.job = name.parse().unwrap();
    held
}

/// The jobs that workers are asked to load, in order.
fn loads(actions: &[Action]) -> Vec<(WorkerId, String)> {
    let load = |(to, command): (WorkerId, Command)| match command {
        Command::Prepare(prepare) => Some((to, prepare.membership.job.to_string())),
        _ => None,
    };
    commands(actions).into_iter().filter_map(load).collect()
}

/// A coordinator that was started again with a job that was interrupted after five steps, saved after none, and one of a
/// higher priority that waited for two workers.
fn restarted() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(named("interrupted", 1, 2)));
    fixture.feed(Event::Submitted(JobTerms {
        priority: 10,
        ..named("urgent", 2, 2)
    }));
    fixture
}

fn data_of(fixture: &mut Fixture, name: &str, committed: u64) -> Vec<Action> {
    fixture.feed(Event::DataPrepared {
        job: name.parse().unwrap(),
        data: data(1000, 4),
        continued: Some(Continued {
            committed: Step(committed),
            last: None,
        }),
    })
}

#[test]
fn after_a_restart_holders_of_an_interrupted_job_go_on_with_it_before_a_higher_one_takes_them() {
    let mut fixture = restarted();
    data_of(&mut fixture, "urgent", 0);
    for number in [1, 2] {
        let actions = fixture.come(number, 0, Some(held_of("interrupted", 5)));
        assert_eq!(
            loads(&actions),
            [],
            "they are kept for the job that they hold"
        );
    }
    let actions = data_of(&mut fixture, "interrupted", 5);
    let own = "interrupted".to_owned();
    assert_eq!(
        loads(&actions),
        [(worker(1), own.clone()), (worker(2), own)]
    );
    let actions = fixture.report(1, wire::Event::Prepared(held_of("interrupted", 5)));
    assert_eq!(formed(&actions).len(), 1, "nothing is rolled back");
    fixture.report(2, wire::Event::Prepared(held_of("interrupted", 5)));
    assert_eq!(live(&fixture, "interrupted"), 2);

    // Now the higher one has its turn, and the state is saved before its last holder goes.
    let actions = fixture.wait(PLACE_EVERY);
    let saves = commands(&actions).into_iter().any(|(_, command)| {
        matches!(command, Command::TakeCheckpoint(take) if take.checkpoint.next_step == Step(5))
    });
    assert!(saves, "{actions:?}");
}

#[test]
fn workers_are_not_kept_for_a_job_that_cannot_go_on_with_them() {
    let mut fixture = Fixture::new();
    fixture.feed(Event::Submitted(JobTerms {
        priority: 10,
        ..named("urgent", 2, 2)
    }));
    fixture.feed(Event::Submitted(named("interrupted", 3, 3)));
    data_of(&mut fixture, "urgent", 0);
    fixture.come(1, 0, Some(held_of("interrupted", 5)));
    fixture.come(2, 0, Some(held_of("interrupted", 5)));
    let came = fixture.now;
    let mut asked = Vec::new();
    while asked.is_empty() && fixture.now.since(came) < 10 * LONGEST_KEPT {
        for number in [1, 2] {
            super::acting::beat(&mut fixture, number);
        }
        asked = loads(&fixture.wait(std::time::Duration::from_millis(250)));
    }
    let (waited, within) = (fixture.now.since(came), Limits::default().reattach_within);
    assert!(waited >= within, "a third may come back: {waited:?}");
    assert!(waited <= within + 2 * PLACE_EVERY, "{waited:?}");
    let urgent = "urgent".to_owned();
    assert_eq!(asked, [(worker(1), urgent.clone()), (worker(2), urgent)]);
}

#[test]
fn workers_are_kept_for_a_job_whose_data_are_prepared_but_not_for_ever() {
    let mut fixture = restarted();
    data_of(&mut fixture, "urgent", 0);
    let came = fixture.now;
    for number in [1, 2] {
        fixture.come(number, 0, Some(held_of("interrupted", 5)));
    }
    let mut asked = Vec::new();
    while asked.is_empty() && fixture.now.since(came) < 10 * LONGEST_KEPT {
        for number in [1, 2] {
            super::acting::beat(&mut fixture, number);
        }
        asked = loads(&fixture.wait(std::time::Duration::from_millis(250)));
    }
    assert_eq!(asked.len(), 2, "{asked:?}");
    let waited = fixture.now.since(came);
    assert!(waited >= LONGEST_KEPT, "{waited:?}");
}

#[test]
fn workers_are_kept_for_no_job_that_is_over() {
    let mut fixture = restarted();
    data_of(&mut fixture, "urgent", 0);
    fixture.come(1, 0, Some(held_of("interrupted", 5)));
    fixture.come(2, 0, Some(held_of("interrupted", 5)));
    let actions = fixture.feed(Event::CancelRequested("interrupted".parse().unwrap()));
    assert_eq!(loads(&actions).len(), 2);
}
