//! The training thread with an engine of four numbers.

mod holding;
mod ring;

use weft_common::id::{SlotId, Step};
use weft_common::wire::{
    CheckpointRef, Event, HeldSlot, Holding, ReducedReport, Restore, SlotDone, TakeCheckpoint,
    Update,
};

use super::*;
use crate::agent::machine::Scope;
use crate::agent::order::{Loading, StateCopy};
use crate::agent::testing::{
    Gate, LOOPBACK, factory, form, leased, membership, outcome, prepare, round, sum_of,
};

/// A thread under test.
struct Subject {
    number: u128,
    thread: TrainingThread,
    answers: mpsc::Receiver<Answer>,
    tokens: Tokens,
    /// What it held when it had loaded.
    loaded: Holding,
}

impl Subject {
    fn start(number: u128, gate: Option<Gate>) -> Self {
        let place = Place {
            worker: WorkerId::from_number(number),
            listen_ip: LOOPBACK,
            peer_port: 7,
        };
        let (sender, answers) = mpsc::channel(64);
        let thread = TrainingThread::start(place, factory(gate), sender).unwrap();
        let mut tokens = Tokens::default();
        tokens.cancel(Scope::Copy);
        assert!(thread.order(load(), &tokens));
        let mut answers = answers;
        let Some(Answer::Done(Event::Prepared(loaded))) = answers.blocking_recv() else {
            panic!("the job is loaded");
        };
        Self {
            number,
            thread,
            answers,
            tokens,
            loaded,
        }
    }

    /// A thread that is the only member of epoch 1.
    fn alone(gate: Option<Gate>) -> Self {
        let mut subject = Self::start(1, gate);
        subject.order(Order::Join(form(membership(1, 1), &[(1, 0)], 0)));
        subject
    }

    fn order(&mut self, order: Order) {
        assert!(self.thread.order(order, &self.tokens));
    }

    fn compute(&mut self, slot: u32, staged: bool) {
        self.order(compute(0, slot, staged));
    }

    fn answer(&mut self) -> Answer {
        self.answers.blocking_recv().expect("the thread answers")
    }

    fn slot_done(&mut self) -> SlotDone {
        match self.answer() {
            Answer::Done(Event::SlotDone(done)) => done,
            other => panic!("{other:?}"),
        }
    }

    fn reduced(&mut self) -> ReducedReport {
        match self.answer() {
            Answer::Done(Event::Reduced(reduced)) => reduced,
            other => panic!("{other:?}"),
        }
    }

    fn prepared(&mut self) -> Holding {
        match self.answer() {
            Answer::Done(Event::Prepared(holding)) => holding,
            other => panic!("{other:?}"),
        }
    }

    fn failed(&mut self) -> WorkerFailed {
        match self.answer() {
            Answer::Failed(failed) => failed,
            other => panic!("{other:?}"),
        }
    }

    /// As when the session ends.
    fn settle(&mut self) -> Option<Holding> {
        for scope in [Scope::Reduce, Scope::Slots, Scope::Staged] {
            self.tokens.cancel(scope);
        }
        self.order(Order::Settle(membership(1, 1)));
        loop {
            if let Answer::Settled(holding) = self.answer() {
                return holding;
            }
        }
    }

    /// Slots and sum that it would attach with.
    fn held(&mut self) -> (u64, Vec<u32>, Option<weft_common::id::Digest>) {
        let held = self.settle().expect("a job is loaded");
        for HeldSlot { slot, outcome: of } in &held.slots {
            let plan = leased(slot.0, false).plan;
            assert_eq!(*of, outcome(held.next_step, &plan));
        }
        let slots = held.slots.iter().map(|held| held.slot.0).collect();
        (held.next_step.0, slots, held.sum.map(|sum| sum.digest))
    }
}

fn load() -> Order {
    Order::Load(Box::new(Loading {
        prepare: prepare(membership(1, 0)),
        dataset_dir: "/data".into(),
    }))
}

fn compute(step: u64, slot: u32, staged: bool) -> Order {
    Order::Compute {
        round: round(1, step),
        step_supervised: 8,
        slot: leased(slot, staged),
    }
}

fn apply(epoch: u64, step: u64) -> Order {
    Order::Apply {
        round: round(epoch, step),
        update: Update::Apply,
    }
}
