//! The workers' side: their drivers and training threads.

use std::time::Duration;

use weft_common::wire::{self, Event};
use weft_worker::agent::machine::{self, Connect, Input};
use weft_worker::agent::{Answer, Order, WorkerExit};

use super::super::faults::{Bite, Flip, Planted};
use super::super::trainer::{Given, step_of};
use super::agenda::{AtWorker, Attempt, Happening};
use super::{HOP_WITHIN, World};

impl World {
    /// Feeds an input to a worker, later where it is paused.
    pub(super) fn input(&mut self, process: usize, input: Box<Input>) {
        if !self.processes[process].alive {
            return;
        }
        match self.resumes(process) {
            Some(resumes) => self.at(resumes, Happening::Worker(process, AtWorker::Input(input))),
            None => self.feed(process, *input),
        }
    }

    pub(super) fn feed(&mut self, process: usize, input: Input) {
        let actions = self.processes[process].machine.step(input);
        self.obey(process, actions);
    }

    pub(super) fn obey(&mut self, process: usize, actions: Vec<machine::Action>) {
        for action in actions {
            if !self.processes[process].alive {
                return;
            }
            match action {
                machine::Action::Connect(asked) => self.connect(process, asked),
                machine::Action::Send(event) => self.send_up(process, event),
                machine::Action::Fetch { job, .. } => {
                    let wait = self.rng.millis(1, 10);
                    let found = Ok("/sim/data".into());
                    let input = Box::new(Input::Dataset { job, found });
                    self.after(wait, Happening::Worker(process, AtWorker::Input(input)));
                }
                machine::Action::Copy(asked) => self.copy(process, asked),
                machine::Action::Train(order) => self.processes[process].trainer.order(order),
                machine::Action::Cancel(scope) => {
                    if matches!(scope, machine::Scope::Copy | machine::Scope::Job) {
                        self.processes[process].copies += 1;
                    }
                    self.processes[process].trainer.cancel(scope);
                }
                machine::Action::Exit(exit) => self.exited(process, &exit),
            }
        }
        self.pump(process);
    }

    pub(super) fn exited(&mut self, process: usize, exit: &WorkerExit) {
        self.say(|| format!("worker {process}: {exit}"));
        let host = self.processes[process].host;
        self.end_worker(process);
        let wait = self.rng.millis(50, 1000);
        self.after(wait, Happening::StartWorker(host));
    }

    pub(super) fn connect(&mut self, process: usize, asked: Connect) {
        if let Some(connection) = self.processes[process].connection.take() {
            self.close_worker_end(connection);
        }
        let own = &mut self.processes[process];
        own.attempts += 1;
        let number = own.attempts;
        let wait = asked.after + self.rng.micros(100, 2000);
        let asked = Box::new(asked);
        let attempt = Attempt { number, asked };
        self.after(wait, Happening::Worker(process, AtWorker::Attempt(attempt)));
    }

    /// Lets a training thread get on.
    pub(super) fn pump(&mut self, process: usize) {
        loop {
            let own = &mut self.processes[process];
            if !own.alive || own.hangs || own.paused_until > self.now {
                return;
            }
            let Some(order) = own.trainer.begin() else {
                return;
            };
            let turn = own.trainer.turn;
            match self.takes(process, &order) {
                Takes::Time(wait) => {
                    let given = self.given(&order, wait);
                    self.after(
                        wait,
                        Happening::Worker(process, AtWorker::OrderDone(turn, given)),
                    );
                    return;
                }
                Takes::Peers => {
                    self.after(
                        HOP_WITHIN,
                        Happening::Worker(process, AtWorker::ReduceOverdue(turn)),
                    );
                    self.look_at_rings();
                    return;
                }
                Takes::Nothing => self.finish(process, Given::default()),
            }
        }
    }

    fn takes(&mut self, process: usize, order: &Order) -> Takes {
        match order {
            Order::Load(_) => Takes::Time(self.rng.millis(20, 400)),
            Order::Compute { .. } => {
                let slowness = 1 + u64::from(self.processes[process].host % 3);
                Takes::Time(self.rng.micros(3000, 20_000) * u32::try_from(slowness).unwrap_or(1))
            }
            Order::Restore(_) => Takes::Time(self.rng.millis(1, 50)),
            Order::Apply { .. } | Order::Adopt { .. } => Takes::Time(self.rng.micros(100, 3000)),
            Order::Reduce(_) => Takes::Peers,
            Order::Snapshot(take) => {
                self.snapshot(process, take.clone());
                Takes::Nothing
            }
            Order::Describe(_)
            | Order::Settle(_)
            | Order::Join(_)
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Unload => Takes::Nothing,
        }
    }

    pub(super) fn given(&self, order: &Order, elapsed: Duration) -> Given {
        let step = match order {
            Order::Load(loading) => step_of(loading.prepare.resume.as_ref()),
            Order::Restore(restore) => step_of(restore.checkpoint.as_ref()),
            Order::Describe(_)
            | Order::Settle(_)
            | Order::Adopt { .. }
            | Order::Join(_)
            | Order::Compute { .. }
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Reduce(_)
            | Order::Apply { .. }
            | Order::Snapshot(_)
            | Order::Unload => None,
        };
        let state = step.and_then(|step| Some((*self.disk.checkpoints.get(&step)?, step)));
        Given {
            sum: None,
            state,
            elapsed,
        }
    }

    pub(super) fn order_done(&mut self, process: usize, turn: u64, given: Given) {
        let own = &self.processes[process];
        if !own.alive || own.trainer.turn != turn || own.trainer.running.is_none() {
            return;
        }
        if own.hangs {
            self.bites.insert(Bite::OrderHung);
            return;
        }
        if let Some(resumes) = self.resumes(process) {
            self.at(
                resumes,
                Happening::Worker(process, AtWorker::OrderDone(turn, given)),
            );
            return;
        }
        self.finish(process, given);
        self.pump(process);
    }

    pub(super) fn finish(&mut self, process: usize, given: Given) {
        self.allow_flips(process);
        let own = &mut self.processes[process];
        let ports = own.ports(process);
        let applies = matches!(own.trainer.running, Some((Order::Apply { .. }, _)));
        let flips = own.trainer.flips;
        let mut answer = own.trainer.finish(given, ports);
        if flips == Some(Flip::Report) && own.trainer.flips.is_none() {
            self.bites.insert(Bite::ReportFlipped);
            let step = own.trainer.loaded.as_ref().map(|loaded| loaded.next_step);
            self.flipped.extend(step);
        }
        let own = &self.processes[process];
        if applies && let Some(loaded) = &own.trainer.loaded {
            self.facts.applied(process, loaded, &self.disk);
        }
        if let Some(Answer::Done(Event::Reduced(report))) = &answer
            && self.setup.planted == Some(Planted::ApplyWithoutCommit)
            && self.rng.chance(50)
        {
            let round = report.round.clone();
            self.apply_early(process, round);
            answer = None;
        }
        if let Some(answer) = answer {
            let wait = self.rng.micros(1, 100);
            let input = Box::new(Input::Answer(answer));
            self.after(wait, Happening::Worker(process, AtWorker::Input(input)));
        }
    }

    pub(super) fn apply_early(&mut self, process: usize, round: wire::Round) {
        let trainer = &mut self.processes[process].trainer;
        trainer.order(Order::Apply {
            round,
            update: wire::Update::Apply,
        });
    }
}

/// What an order waits for.
enum Takes {
    Nothing,
    Time(Duration),
    Peers,
}
