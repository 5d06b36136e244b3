//! Running: step after step is leased, computed, sealed, reduced, agreed on and committed.
//!
//! ```text
//! lease ─► slot done ─┬─► lease          Leasing
//!                     └─► seal ─► reduced by all, digests equal     Reducing
//!                                   └─► ledger durable ─► commit    Committing
//!                                                  └─ carries the leases of the next step
//! ```

use std::sync::Arc;

use weft_common::id::{Digest, SlotId, Step, WorkerId};
use weft_common::ledger::{self, CommitRecord, SlotRecord};
use weft_common::wire::{
    self, AppliedReport, Command, ErrorKind, Lease, LeasedSlot, ReducedReport, RejectReason, Round,
    SlotDone, SumHealth,
};

use super::action::{Action, EpochReport, Notice};
use super::applied::{AppliedVerdict, Applying};
use super::ballot::{Ballot, BallotVerdict};
use super::checkpoints::CheckpointBook;
use super::context::Context;
use super::draining::DrainCause;
use super::ending;
use super::job::{JobEvent, JobState, RunData};
use super::lease::{Acceptance, LeaseBook};
use super::loss::{AtLoss, Loss, Suspicion, member_lost};
use super::members::Members;
use super::outcome::{Compared, FailReason};
use super::round::{Phase, StepRound};
use super::terms::{JobTerms, OnNonFinite};

/// A job whose steps are computed and committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// What is computed.
    pub data: Arc<RunData>,
    /// By whom.
    pub members: Members,
    /// The step in hand.
    pub round: StepRound,
    /// The step before it, until every member has applied it.
    pub applying: Option<Applying>,
    /// Digest of adapter and optimizer state before the step in hand; of the start while `applying` says otherwise.
    pub state_digest: Digest,
    /// Gradient norm of the step before, once it is applied; 0 before the first.
    pub grad_norm: f64,
    /// Its checkpoints.
    pub checkpoints: CheckpointBook,
    /// A member's word that it cannot reach a peer.
    pub suspicion: Option<Suspicion>,
    /// Why it stops after the step in hand.
    pub drain: Option<DrainCause>,
}

impl Running {
    /// Begins with the first step of a formed epoch.
    pub(super) fn begin(
        terms: &JobTerms,
        data: Arc<RunData>,
        members: Members,
        cx: &mut Context<'_>,
    ) -> JobState {
        let step = terms.start();
        let described = members.list().iter();
        cx.notify(Notice::EpochFormed(EpochReport {
            epoch: members.membership().epoch,
            step,
            total_steps: data.total_steps(),
            members: described
                .map(|member| (member.name.clone(), member.engine.clone()))
                .collect(),
        }));
        let mut running = Self {
            round: StepRound::new(data.planner.step(step), cx.now),
            state_digest: members.list()[0].engine.state_digest,
            data,
            members,
            applying: None,
            grad_norm: 0.0,
            checkpoints: CheckpointBook::starting_with(terms.resume.clone()),
            suspicion: None,
            drain: None,
        };
        for (worker, lease) in running.first_leases(cx) {
            if let Some(lease) = lease {
                cx.send(worker, Command::Lease(lease));
            }
        }
        JobState::Running(Box::new(running))
    }

    pub(super) fn step(
        self: Box<Self>,
        terms: &JobTerms,
        event: JobEvent,
        cx: &mut Context<'_>,
    ) -> JobState {
        match event {
            JobEvent::Reported(worker, report) => self.reported(terms, worker, report, cx),
            JobEvent::LedgerDurable(step) => self.durable(terms, step, cx),
            JobEvent::LedgerFailed(step, message) => {
                let reason = FailReason::Ledger { step, message };
                self.fail(terms, reason, cx)
            }
            JobEvent::WorkerGone(loss) => self.worker_gone(terms, loss, cx),
            JobEvent::CancelRequested => self.drain(DrainCause::Cancelled, cx),
            JobEvent::DataPrepared(_) | JobEvent::DataFailed(_) | JobEvent::WorkerAttached(_) => {
                JobState::Running(self)
            }
            JobEvent::Tick => match self.suspicion.as_ref().and_then(|s| s.ripe(cx)) {
                Some(reason) => self.fail(terms, reason, cx),
                None => JobState::Running(self),
            },
        }
    }

    fn reported(
        self: Box<Self>,
        terms: &JobTerms,
        worker: WorkerId,
        report: wire::Event,
        cx: &mut Context<'_>,
    ) -> JobState {
        match report {
            wire::Event::SlotDone(done) => self.slot_done(worker, &done, cx),
            wire::Event::Reduced(reduced) => self.reduced(terms, worker, &reduced, cx),
            wire::Event::Applied(applied) => self.applied(terms, worker, &applied, cx),
            wire::Event::CheckpointWritten(written) => {
                let mut running = self;
                running.checkpoints.written(written, cx);
                JobState::Running(running)
            }
            wire::Event::CheckpointFailed(failed) => {
                let mut running = self;
                running.checkpoints.failed(failed, cx);
                JobState::Running(running)
            }
            wire::Event::Failed(failed) => {
                if self.members.fence(worker, &failed.membership).is_err() {
                    return JobState::Running(self);
                }
                self.member_failed(terms, worker, failed, cx)
            }
            wire::Event::Leave { reason } => self.leave(worker, reason, cx),
            wire::Event::Heartbeat(_) | wire::Event::Prepared(_) | wire::Event::EpochReady(_) => {
                JobState::Running(self)
            }
        }
    }

    fn slot_done(
        mut self: Box<Self>,
        worker: WorkerId,
        done: &SlotDone,
        cx: &mut Context<'_>,
    ) -> JobState {
        match self.accept(worker, done) {
            Ok(Acceptance::More) => {
                self.round.computed(worker, done.elapsed);
                self.lease_next(worker, cx);
            }
            Ok(Acceptance::Complete) => {
                self.round.computed(worker, done.elapsed);
                self.seal(cx);
            }
            Err(reason) => cx.reject(worker, done.round.clone(), reason),
        }
        JobState::Running(self)
    }

    fn accept(&mut self, worker: WorkerId, done: &SlotDone) -> Result<Acceptance, RejectReason> {
        self.fence(worker, &done.round)?;
        match &mut self.round.phase {
            Phase::Leasing(book) => book.accept(worker, done),
            Phase::Reducing { .. } | Phase::Committing { .. } => Err(RejectReason::Slot),
        }
    }

    fn lease_next(&mut self, worker: WorkerId, cx: &mut Context<'_>) {
        let world = self.members.world();
        let round = self.current();
        let step_supervised = self.round.plan.supervised_tokens();
        if let Phase::Leasing(book) = &mut self.round.phase {
            let next = book.grant_one(worker, world, cx.lease_ids);
            let lease = next.map(|slot| lease(round, step_supervised, vec![slot]));
            if let Some(lease) = lease {
                cx.send(worker, Command::Lease(lease));
            }
        }
    }

    fn seal(&mut self, cx: &mut Context<'_>) {
        let sealed = Phase::Reducing {
            accepted: self.round.take_accepted(),
            ballot: Ballot::default(),
            health: SumHealth::Finite,
        };
        self.round.phase = sealed;
        cx.send_all(&self.members.ids(), &Command::Seal(self.current()));
    }

    fn reduced(
        mut self: Box<Self>,
        terms: &JobTerms,
        worker: WorkerId,
        report: &ReducedReport,
        cx: &mut Context<'_>,
    ) -> JobState {
        match self.vote(worker, report) {
            Ok(BallotVerdict::Open) => JobState::Running(self),
            Ok(BallotVerdict::Unanimous(digest)) => self.agreed(terms, digest, report.health, cx),
            Ok(BallotVerdict::Split(odd)) => {
                let reason = FailReason::Disagreement {
                    what: Compared::Sum,
                    step: report.round.step,
                    odd: self.members.names(&odd),
                };
                self.fail(terms, reason, cx)
            }
            Err(reason) => {
                cx.reject(worker, report.round.clone(), reason);
                JobState::Running(self)
            }
        }
    }

    /// A member votes on this step's sum only after it applied the step before.
    fn vote(
        &mut self,
        worker: WorkerId,
        report: &ReducedReport,
    ) -> Result<BallotVerdict, RejectReason> {
        self.fence(worker, &report.round)?;
        if self.applying.as_ref().is_some_and(|a| !a.has(worker)) {
            return Err(RejectReason::Phase);
        }
        let Phase::Reducing { ballot, health, .. } = &mut self.round.phase else {
            return Err(RejectReason::Phase);
        };
        ballot.cast(worker, report.digest)?;
        *health = report.health;
        let verdict = ballot.verdict(self.members.world());
        self.round.reducing.insert(worker, report.elapsed);
        Ok(verdict)
    }

    /// All members hold the same sum: decides what happens to it and records that.
    fn agreed(
        mut self: Box<Self>,
        terms: &JobTerms,
        sum_digest: Digest,
        health: SumHealth,
        cx: &mut Context<'_>,
    ) -> JobState {
        let step = self.round.step();
        let update = match (health, terms.on_non_finite) {
            (SumHealth::Finite, _) => wire::Update::Apply,
            (SumHealth::NonFinite | SumHealth::Overflow, OnNonFinite::Skip) => wire::Update::Skip,
            (SumHealth::NonFinite | SumHealth::Overflow, OnNonFinite::Fail) => {
                return self.fail(terms, FailReason::NonFinite { step, health }, cx);
            }
        };
        let record = self.record(update, sum_digest, cx);
        cx.act(Action::AppendLedger {
            job: terms.id.clone(),
            record: record.clone(),
        });
        self.round.phase = Phase::Committing {
            record,
            update,
            since: cx.now,
        };
        JobState::Running(self)
    }

    fn record(
        &mut self,
        update: wire::Update,
        gradient_digest: Digest,
        cx: &Context<'_>,
    ) -> CommitRecord {
        let step = self.round.step();
        let accepted = self.round.take_accepted();
        let planned = self.round.plan.slots.iter().zip(accepted);
        CommitRecord {
            step,
            data_epoch: self.round.plan.data_epoch,
            term: cx.term,
            epoch: self.members.membership().epoch,
            slots: planned
                .map(|(plan, done)| {
                    SlotRecord::new(
                        plan,
                        done.worker,
                        done.outcome.loss_sum,
                        done.outcome.digest,
                    )
                })
                .collect(),
            gradient_digest,
            state_digest: self.state_digest,
            update: match update {
                wire::Update::Apply => ledger::Update::Apply,
                wire::Update::Skip => ledger::Update::Skip,
            },
            learning_rate: self.data.schedule.at(step),
            previous_grad_norm: self.grad_norm,
        }
    }

    fn applied(
        mut self: Box<Self>,
        terms: &JobTerms,
        worker: WorkerId,
        report: &AppliedReport,
        cx: &mut Context<'_>,
    ) -> JobState {
        let Some(applying) = self.applying.take() else {
            cx.reject(worker, report.round.clone(), RejectReason::Phase);
            return JobState::Running(self);
        };
        if let Err(reason) = applying.fence(worker, report, &self.members) {
            cx.reject(worker, report.round.clone(), reason);
            self.applying = Some(applying);
            return JobState::Running(self);
        }
        self.round.computed(worker, report.elapsed);
        match applying.take(worker, report, &self.members, cx) {
            AppliedVerdict::Open(applying) => self.applying = Some(applying),
            AppliedVerdict::Agreed(digest) => {
                self.state_digest = digest;
                self.grad_norm = report.grad_norm;
            }
            AppliedVerdict::Split(reason) => return self.fail(terms, reason, cx),
        }
        JobState::Running(self)
    }

    fn leave(self: Box<Self>, worker: WorkerId, reason: String, cx: &mut Context<'_>) -> JobState {
        match self.members.get(worker) {
            Some(member) => {
                let worker = Box::new(member.name.clone());
                let cause = DrainCause::Failed(FailReason::WorkerLeft { worker, reason });
                self.drain(cause, cx)
            }
            None => {
                cx.send(worker, Command::Shutdown { reason });
                JobState::Running(self)
            }
        }
    }

    /// Stops after the step in hand. The first cause counts.
    fn drain(mut self: Box<Self>, cause: DrainCause, cx: &mut Context<'_>) -> JobState {
        if self.drain.is_none() {
            cx.notify(Notice::Draining(cause.to_string()));
            self.drain = Some(cause);
        }
        JobState::Running(self)
    }

    fn member_failed(
        self: Box<Self>,
        terms: &JobTerms,
        worker: WorkerId,
        failed: wire::WorkerFailed,
        cx: &mut Context<'_>,
    ) -> JobState {
        let Some(name) = self.members.names(&[worker]).pop() else {
            return JobState::Running(self);
        };
        let reason = FailReason::WorkerFailed {
            worker: Box::new(name),
            kind: failed.kind,
            message: failed.message,
        };
        if failed.kind == ErrorKind::Collective {
            let mut running = self;
            let heard = || Suspicion::new(reason, cx.now);
            running.suspicion.get_or_insert_with(heard);
            return JobState::Running(running);
        }
        self.fail(terms, reason, cx)
    }

    fn worker_gone(
        self: Box<Self>,
        terms: &JobTerms,
        loss: Loss,
        cx: &mut Context<'_>,
    ) -> JobState {
        if self.members.get(loss.worker).is_none() {
            return JobState::Running(self);
        }
        let at = AtLoss {
            members: &self.members,
            step: self.round.step(),
            slot: self.last_slot_of(loss.worker),
            checkpoint: self.checkpoints.complete.clone(),
        };
        member_lost(terms, loss, at, cx)
    }

    fn last_slot_of(&self, worker: WorkerId) -> Option<SlotId> {
        match &self.round.phase {
            Phase::Leasing(book) => book.last_slot_of(worker),
            Phase::Reducing { accepted, .. } => {
                let mut own = accepted.iter().filter(|slot| slot.worker == worker);
                own.next_back().map(|slot| slot.slot)
            }
            Phase::Committing { record, .. } => {
                let mut own = record.slots.iter().filter(|slot| slot.worker == worker);
                own.next_back().map(|slot| slot.slot)
            }
        }
    }

    /// The step in hand, as messages name it.
    #[must_use]
    pub fn current(&self) -> Round {
        self.members.membership().round(self.round.step())
    }

    fn fence(&self, worker: WorkerId, round: &Round) -> Result<(), RejectReason> {
        self.members.fence(worker, &round.membership)?;
        if round.step != self.round.step() {
            return Err(RejectReason::Step);
        }
        Ok(())
    }

    /// The first grants of the step in hand, for every member.
    pub(super) fn first_leases(&mut self, cx: &mut Context<'_>) -> Vec<(WorkerId, Option<Lease>)> {
        let ids = self.members.ids();
        let round = self.current();
        let step_supervised = self.round.plan.supervised_tokens();
        let Phase::Leasing(book) = &mut self.round.phase else {
            return Vec::new();
        };
        let mut granted = book.grant_all(&ids, cx.lease_ids);
        let mut of = |worker: WorkerId| {
            let slots = granted.remove(&worker).filter(|slots| !slots.is_empty())?;
            Some(lease(round.clone(), step_supervised, slots))
        };
        ids.iter().map(|worker| (*worker, of(*worker))).collect()
    }

    fn fail(
        self: Box<Self>,
        terms: &JobTerms,
        reason: FailReason,
        cx: &mut Context<'_>,
    ) -> JobState {
        ending::fail(terms, reason, self.checkpoints.complete, cx)
    }

    /// Committed steps.
    #[must_use]
    pub fn committed(&self) -> Step {
        self.round.step()
    }

    /// The slots being leased, while they are.
    #[must_use]
    pub fn lease_book(&self) -> Option<&LeaseBook> {
        match &self.round.phase {
            Phase::Leasing(book) => Some(book),
            Phase::Reducing { .. } | Phase::Committing { .. } => None,
        }
    }
}

fn lease(round: Round, step_supervised: u64, slots: Vec<LeasedSlot>) -> Lease {
    Lease {
        round,
        step_supervised,
        slots,
    }
}
