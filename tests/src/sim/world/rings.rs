//! Members sum.

use weft_common::id::WorkerId;
use weft_common::wire;
use weft_worker::agent::machine::Input;
use weft_worker::agent::{Answer, ErrorKind, Order};

use super::super::trainer::Given;
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
        for (_, round, members) in &waiting {
            let there: Vec<usize> = waiting
                .iter()
                .filter(|(_, of, _)| of == round)
                .map(|(number, _, _)| *number)
                .collect();
            let first = there.first().copied();
            let all = there.len() == members.len() && self.reach_each_other(&there);
            if all
                && first.is_some_and(|first| {
                    waiting.iter().any(|(n, of, _)| *n == first && of == round)
                })
            {
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
                    self.at(meet, Happening::LookAtRings);
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn sum(&mut self, there: &[usize]) {
        let parts = there.iter().filter_map(|number| {
            let loaded = self.processes[*number].trainer.loaded.as_ref()?;
            Some(loaded.part())
        });
        let sum = parts.fold(0, u64::wrapping_add);
        for number in there {
            let wait = self.rng.micros(100, 3000);
            let trainer = &mut self.processes[*number].trainer;
            let flips = std::mem::take(&mut trainer.flips) && there.len() > 1;
            let given = Given {
                sum: Some(sum ^ u64::from(flips)),
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
