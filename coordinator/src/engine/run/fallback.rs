//! When nobody holds the newest state any more: back to the newest checkpoint.

use weft_common::id::{Step, WorkerId};
use weft_common::wire::{Command, Restore};

use super::super::action::{Action, Notice};
use super::super::context::Context;
use super::super::ending;
use super::super::terms::JobTerms;
use super::Run;
use super::candidates::Stage;

impl Run {
    /// Goes back to the newest checkpoint, once no holder of the newest state has come back for long enough; and has
    /// candidates that hold anything else restore it.
    pub(super) fn fall_back(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        let members = !self.members.list().is_empty();
        if members || self.is_decided() || self.is_held() || self.candidates.is_empty() {
            return;
        }
        let to = self.saved_step();
        if to != self.committed {
            let waited = cx.now.since(self.lonely_since);
            let anyone = self.candidates.values().any(|c| c.ready().is_some());
            if waited < cx.limits.reattach_within || !anyone {
                return;
            }
            self.rewind(terms, to, cx);
        }
        self.restore(terms, cx);
    }

    /// Whether a candidate holds the newest state, or is about to.
    pub(super) fn is_held(&self) -> bool {
        let catching_up = |stage: &Stage| matches!(stage, Stage::CatchingUp(_));
        !self.holders().is_empty() || self.candidates.values().any(|c| catching_up(&c.stage))
    }

    /// The step that the newest checkpoint stands before.
    pub(super) fn saved_step(&self) -> Step {
        let complete = self.checkpoints.complete.as_ref();
        complete.map_or(Step(0), |complete| complete.next_step)
    }

    fn rewind(&mut self, terms: &JobTerms, to: Step, cx: &mut Context<'_>) {
        cx.notify(Notice::RolledBack {
            from: self.committed,
            to,
        });
        cx.act(Action::RewindLedger {
            job: terms.id.clone(),
            first_step: to,
        });
        self.committed = to;
        self.round = None;
        self.applying = None;
        self.state = None;
        self.last_sum = None;
        self.closing_since = None;
    }

    fn restore(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        let command = Command::Restore(Restore {
            membership: ending::unformed(terms, cx),
            checkpoint: self.checkpoints.complete.clone(),
        });
        let elsewhere: Vec<WorkerId> = self
            .candidates
            .iter()
            .filter(|(_, candidate)| {
                let ready = candidate.ready();
                ready.is_some_and(|holding| holding.next_step != self.committed)
            })
            .map(|(worker, _)| *worker)
            .collect();
        for worker in elsewhere {
            if let Some(candidate) = self.candidates.get_mut(&worker) {
                candidate.enter(Stage::Loading, cx.now);
            }
            cx.send(worker, command.clone());
        }
    }
}
