//! Members sum.

use weft_common::id::WorkerId;
use weft_common::wire;
use weft_worker::agent::machine::Input;
use weft_worker::agent::{Answer, ErrorKind, Order};

use super::super::faults::{Bite, Flip};
use super::super::trainer::{Given, SUM_BIT};
use super::World;
use super::agenda::{AtWorker, Happening};

impl World {
    /// Sums for every epoch all of whose members wait for each other.
    pub(super) fn look_at_rings(&mut self) {
        let waiting: Vec<(usize, wire::Round, Vec<WorkerId>)> = self
            .processes
            .iter()
            .enumerate()
            .filter_map(|(number, own)| {
                let runs = own.alive && !own.hangs && own.paused_until <= self.now;
                let Some((Order::Reduce(round), _)) = own.trainer.running.as_ref().filter(|_| runs)
                else {
                    return None;
                };
                let epoch = own.trainer.loaded.as_ref()?.epoch()?;
                (epoch.membership == round.membership).then(|| {
                    let members = epoch.members.iter().map(|member| member.worker);
                    (number, round.clone(), members.collect())
                })
            })
            .collect();
        for (first, round, members) in &waiting {
            let same = waiting.iter().filter(|(_, of, _)| of == round);
            let there: Vec<usize> = same.map(|(number, ..)| *number).collect();
            let once = there.first() == Some(first);
            if once && there.len() == members.len() && self.reach_each_other(&there) {
                self.sum(&there);
            }
        }
    }

    pub(super) fn reach_each_other(&mut self, there: &[usize]) -> bool {
        for a in there {
            for b in there {
                let (a, b) = (self.processes[*a].host, self.processes[*b].host);
                let meet = self.links.meet(a, b);
                if a != b && meet > self.now {
                    self.bites.insert(Bite::PeersSeparated);
                    self.at(meet, Happening::LookAtRings);
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn sum(&mut self, there: &[usize]) {
        let mut sum = 0;
        for number in there {
            self.allow_flips(*number);
            let trainer = &mut self.processes[*number].trainer;
            let flips = trainer.flips(Flip::Part);
            let Some(loaded) = &mut trainer.loaded else {
                continue;
            };
            if flips {
                loaded.flip();
                self.bites.insert(Bite::PartFlipped);
                self.flipped.insert(loaded.next_step);
            }
            sum += loaded.part();
        }
        for number in there {
            let wait = self.rng.micros(100, 3000);
            self.allow_flips(*number);
            let trainer = &mut self.processes[*number].trainer;
            let flips = trainer.flips(Flip::Sum);
            if flips {
                self.bites.insert(Bite::SumFlipped);
                let step = trainer.loaded.as_ref().map(|loaded| loaded.next_step);
                self.flipped.extend(step);
            }
            let given = Given {
                sum: Some(sum ^ (i64::from(flips) << SUM_BIT)),
                state: None,
                elapsed: wait,
            };
            // A new turn: this reduction is over, whatever else comes.
            trainer.turn += 1;
            let turn = trainer.turn;
            self.after(
                wait,
                Happening::Worker(*number, AtWorker::OrderDone(turn, given)),
            );
        }
    }

    /// Two bits lost in one step may end a job, and must not end a run of the simulation.
    pub(super) fn allow_flips(&mut self, process: usize) {
        let trainer = &mut self.processes[process].trainer;
        let step = trainer.loaded.as_ref().map(|loaded| loaded.next_step);
        trainer.may_flip = step.is_some_and(|step| !self.flipped.contains(&step));
    }

    pub(super) fn reduce_overdue(&mut self, process: usize, turn: u64) {
        let own = &mut self.processes[process];
        let stuck = own.alive && !own.hangs && own.trainer.turn == turn;
        let Some((Order::Reduce(round), _)) = own.trainer.running.clone().filter(|_| stuck) else {
            return;
        };
        own.trainer.running = None;
        own.trainer.turn += 1;
        let failed = wire::WorkerFailed {
            membership: round.membership,
            kind: ErrorKind::Collective,
            message: "a peer does not answer".into(),
            suspect: None,
        };
        let input = Box::new(Input::Answer(Answer::Failed(failed)));
        self.input(process, input);
    }
}
