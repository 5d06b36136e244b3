//! Workers of the job that are no members yet: they load it, and copy what they lack.

use std::net::SocketAddr;
use std::time::Duration;

use weft_common::id::{Step, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{Command, Commit, EndJob, FetchState, Holding, Prepare};

use super::super::action::Notice;
use super::super::context::Context;
use super::super::ending;
use super::super::members::MemberRecord;
use super::super::outcome::{FailReason, LossCause};
use super::super::terms::{JobTerms, Limits};
use super::progress::HANGS;
use super::{Flow, Run};

/// Joiners that copy at once; more would slow the members down that they copy from.
const SYNCS: usize = 4;

/// Steps that wait for one joiner; after that it has to make it by itself.
const PATIENT_SYNCS: u32 = 3;

/// Copies that may come too late or fail before a worker is sent away.
const SYNC_ATTEMPTS: u32 = 10;

/// A worker that could become a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where it stands.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// Copies of the state that it was asked to make.
    pub syncs: u32,
    /// How long the last of them took, where it came too late.
    pub late_copy: Option<Duration>,
}

/// Where a candidate stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// It loads the job, or restores a checkpoint.
    Loading,
    /// It has said what it holds.
    Ready(Box<Holding>),
    /// It holds the sum of the last committed step and was told to apply it.
    CatchingUp(Box<Holding>),
    /// It copies a member's state.
    Syncing {
        /// The step in hand when it began.
        step: Step,
        /// From whom.
        source: WorkerId,
    },
}

impl Candidate {
    fn new(stage: Stage, since: Timestamp) -> Self {
        Self {
            stage,
            since,
            syncs: 0,
            late_copy: None,
        }
    }

    /// It stands elsewhere now.
    pub(super) fn enter(&mut self, stage: Stage, now: Timestamp) {
        self.stage = stage;
        self.since = now;
    }

    /// What it holds, where it stands still.
    #[must_use]
    pub fn ready(&self) -> Option<&Holding> {
        match &self.stage {
            Stage::Ready(holding) => Some(holding),
            Stage::Loading | Stage::CatchingUp(_) | Stage::Syncing { .. } => None,
        }
    }

    /// Whether the step in hand should wait for it.
    fn is_awaited(&self, step: Step, limits: &Limits, now: Timestamp) -> bool {
        match self.stage {
            Stage::Syncing { step: of, .. } => {
                let fresh = of == step && now.since(self.since) < self.patience(limits);
                fresh && self.syncs <= PATIENT_SYNCS
            }
            Stage::Loading | Stage::Ready(_) | Stage::CatchingUp(_) => false,
        }
    }

    /// How long a step waits for its copy: a little longer than the last one took that came too late, within reason.
    fn patience(&self, limits: &Limits) -> Duration {
        let needed = self.late_copy.map_or(Duration::ZERO, |took| took * 3 / 2);
        needed.clamp(limits.join_within, limits.join_at_most)
    }

    /// What it has been at for too long.
    fn is_overdue(&self, limits: &Limits, now: Timestamp) -> Option<Overdue> {
        let waited = now.since(self.since);
        match self.stage {
            Stage::Ready(_) => None,
            Stage::Syncing { .. } => (waited >= limits.sync_within).then_some(Overdue::Copy),
            Stage::Loading => (waited >= limits.load_within).then_some(Overdue::Load(waited)),
            Stage::CatchingUp(_) => {
                (waited >= limits.stalled_after).then_some(Overdue::Load(waited))
            }
        }
    }
}

/// What a candidate took too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overdue {
    /// It gets less than members can give.
    Copy,
    /// Nothing but itself is in its way: it hangs.
    Load(Duration),
}

impl Run {
    /// A worker's session opened. One that comes back says what it holds; any other waits to be invited.
    pub(super) fn came(
        &mut self,
        terms: &JobTerms,
        worker: WorkerId,
        holding: Option<Box<Holding>>,
        cx: &mut Context<'_>,
    ) {
        let Some(holding) = holding else { return };
        cx.fleet.assign(worker, Some(terms.id.clone()));
        let candidate = Candidate::new(Stage::Ready(holding), cx.now);
        self.candidates.insert(worker, candidate);
    }

    /// A candidate says what it holds.
    pub(super) fn prepared(
        &mut self,
        terms: &JobTerms,
        worker: WorkerId,
        holding: Holding,
        cx: &Context<'_>,
    ) {
        if holding.membership.job != terms.id {
            return;
        }
        if let Some(candidate) = self.candidates.get_mut(&worker) {
            if let Stage::Syncing { .. } = candidate.stage {
                let late = holding.next_step != self.committed;
                candidate.late_copy = late.then(|| cx.now.since(candidate.since));
            }
            candidate.enter(Stage::Ready(Box::new(holding)), cx.now);
        }
    }

    /// Asks free workers to load the job, as many as it lacks, and sends away those that are too many.
    pub(super) fn invite(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        if self.is_closing() && !self.members.list().is_empty() {
            return;
        }
        let wanted = self.target as usize;
        let have = self.staying_count() + self.candidates.len();
        let available = if have < wanted {
            cx.fleet.available(&terms.id, &terms.needs, cx.now)
        } else {
            Vec::new()
        };
        for worker in available.into_iter().take(wanted.saturating_sub(have)) {
            cx.fleet.assign(worker, Some(terms.id.clone()));
            let loading = Candidate::new(Stage::Loading, cx.now);
            self.candidates.insert(worker, loading);
            let command = self.prepare(terms, cx);
            cx.send(worker, command);
        }
        for _ in wanted..have {
            if let Some((worker, _)) = self.candidates.pop_last() {
                self.dismiss(worker, "the job has enough workers", cx);
            }
        }
    }

    /// A joiner copies a member's state, so that restoring a checkpoint would be in vain.
    fn prepare(&self, terms: &JobTerms, cx: &Context<'_>) -> Command {
        let alone = self.members.list().is_empty();
        Command::Prepare(Prepare {
            membership: ending::unformed(terms, cx),
            recipe_json: terms.recipe_json.clone(),
            dataset: self.data.dataset.clone(),
            total_steps: self.data.total_steps(),
            resume: self.checkpoints.complete.clone().filter(|_| alone),
            joins: !alone,
        })
    }

    /// Gives a worker back to the pool.
    pub(super) fn dismiss(&mut self, worker: WorkerId, outcome: &str, cx: &mut Context<'_>) {
        self.candidates.remove(&worker);
        cx.fleet.assign(worker, None);
        let membership = self.members.membership().clone();
        let outcome = outcome.to_owned();
        cx.send(
            worker,
            Command::EndJob(EndJob {
                membership,
                outcome,
            }),
        );
    }

    /// Sends a candidate away for good.
    pub(super) fn turn_away(&mut self, worker: WorkerId, why: &str, cx: &mut Context<'_>) {
        cx.notify(Notice::WorkerGone {
            worker: self.name(worker, cx),
            cause: LossCause::Expelled(why.to_owned()).to_string(),
        });
        self.dismiss(worker, why, cx);
        cx.fleet.expel(worker, why);
    }

    /// A candidate cannot load the job. Where the job has no members yet, none will.
    pub(super) fn candidate_failed(
        &mut self,
        worker: WorkerId,
        failed: weft_common::wire::WorkerFailed,
        cx: &mut Context<'_>,
    ) -> Flow {
        if self.members.list().is_empty() && !self.was_formed() {
            return self.fail(FailReason::WorkerFailed {
                worker: Box::new(self.name(worker, cx)),
                kind: failed.kind,
                message: failed.message,
            });
        }
        self.turn_away(worker, &failed.message, cx);
        Flow::Continue(())
    }

    /// Tells candidates that reduced the last committed step, and missed its commit, to apply it.
    pub(super) fn catch_up(&mut self, cx: &mut Context<'_>) {
        let Some(last) = self
            .last_sum
            .filter(|last| last.step.next() == self.committed)
        else {
            return;
        };
        let round = self.members.membership().round(last.step);
        let now = cx.now;
        for (worker, candidate) in &mut self.candidates {
            let Stage::Ready(holding) = &candidate.stage else {
                continue;
            };
            let sum = holding.sum.filter(|_| holding.next_step == last.step);
            if sum.is_some_and(|sum| sum.digest == last.digest) {
                let holding = holding.clone();
                candidate.enter(Stage::CatchingUp(holding), now);
                let commit = Commit {
                    round: round.clone(),
                    update: last.update,
                };
                cx.send(*worker, Command::Commit(commit));
            }
        }
    }

    /// A candidate applied the last committed step; whether it was told to.
    pub(super) fn caught_up(
        &mut self,
        worker: WorkerId,
        applied: &weft_common::wire::AppliedReport,
        cx: &Context<'_>,
    ) -> bool {
        let Some(candidate) = self.candidates.get_mut(&worker) else {
            return false;
        };
        let Stage::CatchingUp(holding) = &candidate.stage else {
            return false;
        };
        if applied.round.step != holding.next_step {
            return false;
        }
        let mut holding = holding.clone();
        holding.next_step = holding.next_step.next();
        holding.engine.state_digest = applied.state_digest;
        holding.slots.clear();
        holding.sum = None;
        self.grad_norm = applied.grad_norm;
        if let Some(applying) = &mut self.applying {
            applying.report.grad_norm = applied.grad_norm;
            applying.report.learning_rate = applied.learning_rate;
        }
        candidate.enter(Stage::Ready(holding), cx.now);
        true
    }

    /// Lets candidates that lack the newest state copy it from members, while those go on.
    pub(super) fn sync(&mut self, cx: &mut Context<'_>) {
        if self.candidates.is_empty() {
            return;
        }
        let sources = self.staying();
        let room = (self.target as usize).saturating_sub(sources.len());
        if sources.is_empty() || !self.is_leasing() || room == 0 {
            return;
        }
        let is_syncing = |candidate: &&Candidate| matches!(candidate.stage, Stage::Syncing { .. });
        let under_way = self.candidates.values().filter(is_syncing).count();
        let behind: Vec<WorkerId> = self
            .candidates
            .iter()
            .filter(|(_, candidate)| {
                let ready = candidate.ready();
                ready.is_some_and(|holding| holding.next_step != self.committed)
            })
            .map(|(worker, _)| *worker)
            .take(SYNCS.min(room).saturating_sub(under_way))
            .collect();
        for (worker, source) in behind.into_iter().zip(sources.iter().cycle()) {
            self.begin_sync(worker, *source, cx);
        }
    }

    fn begin_sync(&mut self, worker: WorkerId, source: WorkerId, cx: &mut Context<'_>) {
        let exhausted = |candidate: &Candidate| candidate.syncs >= SYNC_ATTEMPTS;
        if self.candidates.get(&worker).is_some_and(exhausted) {
            self.turn_away(worker, "it could not copy the state in time", cx);
            return;
        }
        let (Some(member), Some(candidate)) =
            (self.members.get(source), self.candidates.get_mut(&worker))
        else {
            return;
        };
        candidate.syncs += 1;
        let syncing = Stage::Syncing {
            step: self.committed,
            source,
        };
        candidate.enter(syncing, cx.now);
        let command = Command::FetchState(FetchState {
            membership: self.members.membership().clone(),
            source,
            address: member.peer,
        });
        cx.send(worker, command);
    }

    /// A copy failed. The worker still holds what it held before, and says so when it is asked.
    pub(super) fn sync_failed(&mut self, terms: &JobTerms, worker: WorkerId, cx: &mut Context<'_>) {
        let Some(candidate) = self.candidates.get_mut(&worker) else {
            return;
        };
        if matches!(candidate.stage, Stage::Syncing { .. }) {
            candidate.enter(Stage::Loading, cx.now);
            let command = self.prepare(terms, cx);
            cx.send(worker, command);
        }
    }

    /// Sends candidates away that take too long. Those that can be expected to hang are told to end, so that whoever
    /// started them can start them again.
    pub(super) fn give_up_candidates(&mut self, cx: &mut Context<'_>) {
        let each = self.candidates.iter();
        let late: Vec<(WorkerId, Overdue)> = each
            .filter_map(|(worker, one)| Some((*worker, one.is_overdue(cx.limits, cx.now)?)))
            .collect();
        for (worker, overdue) in late {
            match overdue {
                Overdue::Copy => self.turn_away(worker, "it could not copy the state in time", cx),
                Overdue::Load(waited) => {
                    cx.notify(Notice::WorkerGone {
                        worker: self.name(worker, cx),
                        cause: LossCause::Stalled(waited).to_string(),
                    });
                    self.candidates.remove(&worker);
                    cx.dismiss(worker, HANGS);
                }
            }
        }
    }

    /// Whether the step in hand waits, sealed but for that, for a joiner that copies its state.
    pub(super) fn waits_for_joiner(&self, cx: &Context<'_>) -> bool {
        let awaited =
            |candidate: &Candidate| candidate.is_awaited(self.committed, cx.limits, cx.now);
        self.candidates.values().any(awaited)
    }

    /// The record of a candidate that becomes a member.
    pub(super) fn record(
        worker: WorkerId,
        holding: &Holding,
        cx: &Context<'_>,
    ) -> Option<MemberRecord> {
        let record = cx.fleet.get(worker)?;
        Some(MemberRecord {
            name: record.name(worker, None),
            engine: holding.engine.clone(),
            ring: SocketAddr::new(record.ip, holding.ring_port),
            peer: SocketAddr::new(record.ip, holding.peer_port),
        })
    }
}
