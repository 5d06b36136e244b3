//! The commit: the record is durable, so every member may apply the step.

use weft_common::id::{Digest, Step};
use weft_common::ledger::CommitRecord;
use weft_common::time::Timestamp;
use weft_common::wire::{Command, Commit, Update};

use super::super::action::StepReport;
use super::super::applied::Applying;
use super::super::context::Context;
use super::super::round::{Phase, StepRound};
use super::super::terms::{CommittedSum, JobTerms};
use super::Run;

impl Run {
    /// The record of `step` is on disk: broadcasts the commit to those that are left.
    pub(super) fn durable(&mut self, terms: &JobTerms, step: Step, cx: &mut Context<'_>) {
        let Some(round) = self
            .round
            .take_if(|round| round.step() == step && round.is_decided())
        else {
            return;
        };
        let Phase::Committing {
            record,
            update,
            since,
        } = &round.phase
        else {
            return;
        };
        let live = self.live();
        let report = self.report(&round, record, *update, *since, cx);
        self.age.stepped(report.timing.total);
        self.applying = Some(Applying::new(report, &live));
        self.last_sum = Some(CommittedSum {
            step,
            digest: record.gradient_digest,
            update: *update,
        });
        let commit = Commit {
            round: self.current(),
            update: *update,
        };
        cx.send_all(&live, &Command::Commit(commit));
        for worker in live {
            self.progress.touch(worker, cx.now);
        }
        self.committed = step.next();
        self.state = None;
        self.checkpoints.due |= terms.saves_at(self.committed);
    }

    /// What people will be told; what only members know is filled in once they have applied the step.
    fn report(
        &self,
        round: &StepRound,
        record: &CommitRecord,
        update: Update,
        since: Timestamp,
        cx: &Context<'_>,
    ) -> StepReport {
        let plan = &round.plan;
        let members = self.members.ids().into_iter();
        StepReport {
            step: record.step,
            epoch: record.epoch,
            world: self.members.world_u32(),
            loss: record.mean_loss(),
            grad_norm: 0.0,
            learning_rate: record.learning_rate,
            update,
            tokens: plan.tokens(),
            supervised_tokens: plan.supervised_tokens(),
            rows: plan.rows() as u64,
            data_epoch: plan.data_epoch,
            state_digest: Digest([0; 32]),
            timing: round.timing(since, cx.now),
            members: members
                .filter_map(|id| cx.fleet.get(id))
                .map(|record| record.heartbeat.clone())
                .collect(),
        }
    }
}
