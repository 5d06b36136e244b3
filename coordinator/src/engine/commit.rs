//! The commit: the record is durable, so every member may apply the step.

use weft_common::id::{Digest, Step};
use weft_common::ledger::CommitRecord;
use weft_common::time::Timestamp;
use weft_common::wire::{Command, Commit, Update};

use super::action::StepReport;
use super::applied::Applying;
use super::context::Context;
use super::draining::{DrainCause, Draining};
use super::job::JobState;
use super::round::{Phase, StepRound, mean_loss};
use super::running::Running;
use super::terms::JobTerms;

impl Running {
    /// The record of `step` is on disk: broadcasts the commit, with the first leases of the next step on it.
    pub(super) fn durable(
        mut self: Box<Self>,
        terms: &JobTerms,
        step: Step,
        cx: &mut Context<'_>,
    ) -> JobState {
        let Phase::Committing {
            record,
            update,
            since,
        } = &self.round.phase
        else {
            return JobState::Running(self);
        };
        if record.step != step {
            return JobState::Running(self);
        }
        let report = self.report(record, *update, *since, cx);
        let commit = Commit {
            round: self.current(),
            update: *update,
            next: None,
        };
        self.applying = Some(Applying::new(report));
        let finished = step.next().0 >= self.data.total_steps();
        match self.drain.take() {
            Some(cause) => self.last_commit(terms, commit, cause, cx),
            None if finished => self.last_commit(terms, commit, DrainCause::Finished, cx),
            None => self.next_commit(terms, &commit, cx),
        }
    }

    fn next_commit(
        mut self: Box<Self>,
        terms: &JobTerms,
        commit: &Commit,
        cx: &mut Context<'_>,
    ) -> JobState {
        let next = commit.round.step.next();
        self.round = StepRound::new(self.data.planner.step(next), cx.now);
        for (worker, next) in self.first_leases(cx) {
            let commit = Commit {
                next,
                ..commit.clone()
            };
            cx.send(worker, Command::Commit(commit));
        }
        if self.checkpoints.due || terms.saves_at(next) {
            let checkpoint = terms.checkpoint_at(next);
            self.checkpoints.take(checkpoint, &self.members, cx);
        }
        JobState::Running(self)
    }

    fn last_commit(
        self: Box<Self>,
        terms: &JobTerms,
        commit: Commit,
        cause: DrainCause,
        cx: &mut Context<'_>,
    ) -> JobState {
        let next_step = commit.round.step.next();
        cx.send_all(&self.members.ids(), &Command::Commit(commit));
        Draining::begin(terms, *self, next_step, cause, cx)
    }

    /// What people will be told; what only members know is filled in once they have applied the step.
    fn report(
        &self,
        record: &CommitRecord,
        update: Update,
        since: Timestamp,
        cx: &Context<'_>,
    ) -> StepReport {
        let plan = &self.round.plan;
        StepReport {
            step: record.step,
            epoch: record.epoch,
            world: self.members.world_u32(),
            loss: mean_loss(&record.slots),
            grad_norm: 0.0,
            learning_rate: 0.0,
            update,
            tokens: plan.tokens(),
            supervised_tokens: plan.supervised_tokens(),
            rows: plan.rows() as u64,
            data_epoch: plan.data_epoch,
            state_digest: Digest([0; 32]),
            timing: self.round.timing(since, cx.now),
            members: Vec::new(),
        }
    }
}
