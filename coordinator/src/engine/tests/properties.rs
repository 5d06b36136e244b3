//! Laws that hold for any interleaving of what workers say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_common::id::{SlotId, Step, WorkerId};
use weft_common::wire::Command;

use super::super::*;
use super::fixture::*;

/// Honest workers whose messages arrive in any order across workers, in order per worker, some of them twice.
struct World {
    fixture: Fixture,
    /// What each worker is about to say, in order; the disk speaks as worker 0.
    outgoing: BTreeMap<WorkerId, Vec<Event>>,
    accepted: Vec<(Step, SlotId)>,
    commits: Vec<Step>,
}

impl World {
    fn new(workers: u32, steps: u64, slots: u32) -> Self {
        let (fixture, actions) = Fixture::running(workers, steps, slots);
        let mut world = Self {
            fixture,
            outgoing: BTreeMap::new(),
            accepted: Vec::new(),
            commits: Vec::new(),
        };
        world.answer(actions);
        world
    }

    fn say(&mut self, worker: WorkerId, event: wire::Event) {
        let event = Event::Reported {
            worker,
            session: 0,
            event,
        };
        self.outgoing.entry(worker).or_default().push(event);
    }

    /// What honest workers and a working disk say to these actions.
    fn answer(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, command } => self.obey(to, command),
                Action::AppendLedger { job, record } => {
                    self.commits.push(record.step);
                    let slots = record.slots.iter().map(|slot| (record.step, slot.slot));
                    self.accepted.extend(slots);
                    let durable = Event::LedgerDurable {
                        job,
                        step: record.step,
                    };
                    self.outgoing.entry(worker(0)).or_default().push(durable);
                }
                _ => {}
            }
        }
    }

    fn obey(&mut self, to: WorkerId, command: Command) {
        match command {
            Command::Lease(lease) => self.compute(to, &lease),
            Command::Seal(round) => {
                self.say(to, reduced(round.step.0, SUM));
            }
            Command::Commit(commit) => {
                let state = commit.round.step.0.to_le_bytes();
                self.say(to, applied(commit.round.step.0, &state));
            }
            Command::TakeCheckpoint(take) => {
                self.say(to, written(take.checkpoint.next_step.0));
            }
            _ => {}
        }
    }

    fn compute(&mut self, to: WorkerId, lease: &wire::Lease) {
        for slot in &lease.slots {
            self.say(to, slot_done(lease.round.step.0, slot));
        }
    }

    /// Delivers the next message of one speaker, chosen by `pick`; false where nobody has anything to say.
    fn deliver(&mut self, pick: usize, twice: bool) -> bool {
        let speakers: Vec<WorkerId> = self.outgoing.keys().copied().collect();
        if speakers.is_empty() {
            return false;
        }
        let speaker = speakers[pick % speakers.len()];
        let queue = self.outgoing.get_mut(&speaker).unwrap();
        let event = queue.remove(0);
        if queue.is_empty() {
            self.outgoing.remove(&speaker);
        }
        if twice {
            let actions = self.fixture.feed(event.clone());
            self.answer(actions);
        }
        let actions = self.fixture.feed(event);
        self.answer(actions);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_slot_counts_once_every_step_commits_once_and_the_job_ends(
        workers in 1u32..5,
        steps in 1u64..5,
        slots in 1u32..7,
        picks in proptest::collection::vec((any::<usize>(), proptest::bool::weighted(0.1)), 600),
    ) {
        let mut world = World::new(workers, steps, slots);
        let mut picks = picks.into_iter().cycle();
        let mut deliveries = 0;
        while let Some((pick, twice)) = picks.next().filter(|_| deliveries < 5000) {
            if !world.deliver(pick, twice) {
                break;
            }
            deliveries += 1;
        }
        let all: Vec<Step> = (0..steps).map(Step).collect();
        prop_assert_eq!(&world.commits, &all);
        let planned: Vec<(Step, SlotId)> = all
            .iter()
            .flat_map(|step| (0..slots).map(|slot| (*step, SlotId(slot))))
            .collect();
        prop_assert_eq!(&world.accepted, &planned);
        let succeeded = matches!(world.fixture.outcome(), Some(JobOutcome::Succeeded { .. }));
        prop_assert!(succeeded, "{:?}", world.fixture.outcome());
    }
}
