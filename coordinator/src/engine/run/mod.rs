//! A job whose steps are computed and committed, by members that come and go.
//!
//! ```text
//!   lease ─► slot done ─┬─► lease                                    Leasing
//!      ▲                └─► seal ─► reduced by all, digests equal    Reducing
//!      │                              └─► ledger durable ─► commit   Committing
//!      └──────────────── next step ───────────────────────────┘
//! ```
//!
//! Events change facts; [`Run::advance`] then does whatever the facts allow. So it does not matter in which order things
//! go wrong. A step belongs to no membership: when a member is lost, its slots return to the pool, the others keep what
//! their accumulators hold, and a new membership (epoch) goes on with the same step. Once the sum of a step is agreed on,
//! no loss can undo it.

mod age;
mod applying;
mod candidates;
mod checkpoints;
mod closing;
mod committing;
mod fallback;
mod forming;
mod leaving;
mod losses;
mod progress;
mod reducing;
mod reports;
mod slots;
mod trouble;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use weft_common::id::{Digest, Epoch, Step, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{Membership, Round};

pub(super) use age::SavedAge;
pub(super) use candidates::Candidate;
pub(super) use checkpoints::CheckpointBook;
pub use closing::DrainCause;
pub(super) use forming::ALWAYS_TOLD;
pub(super) use leaving::Leaving;
pub use waiting::WaitReason;

use super::action::Notice;
use super::applied::Applying;
use super::context::Context;
use super::ending;
use super::job::{Allotment, JobEvent, JobState, RunData};
use super::members::Members;
use super::outcome::{FailReason, JobOutcome, WorkerName};
use super::round::StepRound;
use super::terms::{CommittedSum, JobTerms};
use progress::Progress;
use slots::Asked;
use trouble::Trouble;

/// Whether the job goes on, or how it ended.
type Flow = ControlFlow<JobOutcome>;

/// A job whose steps are computed and committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What is computed.
    pub data: Arc<RunData>,
    /// As many steps are committed; this one is in hand.
    pub committed: Step,
    /// How many workers it may have.
    pub target: u32,
    /// Whether there are too few workers for all jobs.
    pub contended: bool,
    /// Workers of this job that are no members yet.
    pub candidates: BTreeMap<WorkerId, Candidate>,
    /// The members of the newest epoch; none before the first, or when all are lost.
    pub members: Members,
    /// When that was formed.
    pub formed_at: Timestamp,
    /// Those of them that are gone, until the next epoch.
    pub gone: BTreeSet<WorkerId>,
    /// Those of them whose accumulators hold what does not count, until the next epoch.
    pub tainted: BTreeSet<WorkerId>,
    /// Those of them that will be let go.
    pub leaving: BTreeMap<WorkerId, Leaving>,
    /// The step in hand; none before the first epoch and once nothing is left to compute.
    pub round: Option<StepRound>,
    /// The step before it, until every member has applied it.
    pub applying: Option<Applying>,
    /// Digest of adapter and optimizer state before the step in hand, once members agree on it.
    pub state: Option<Digest>,
    /// The last committed sum.
    pub last_sum: Option<CommittedSum>,
    /// Gradient norm of the step before, once it is applied; 0 before the first.
    pub grad_norm: f64,
    /// Its checkpoints.
    pub checkpoints: CheckpointBook,
    /// How old the newest of them is.
    pub age: SavedAge,
    /// Who was asked last whether it is due a slot.
    pub asked: Option<Asked>,
    /// How fast members are, and when they were last seen to get on.
    pub progress: Progress,
    /// What members say of peers that they cannot reach.
    pub trouble: Trouble,
    /// How many steps in a row passed without an update.
    pub skipped: u32,
    /// Why it stops after the step in hand.
    pub drain: Option<DrainCause>,
    /// What people were last told that it waits for.
    pub waiting: Option<WaitReason>,
    /// Since when it has no members.
    pub lonely_since: Timestamp,
    /// Since when nothing is left to compute.
    pub closing_since: Option<Timestamp>,
}

impl Run {
    /// Begins, or goes on where an earlier coordinator ended. A job whose last state is saved already is over.
    pub(super) fn begin(
        terms: &JobTerms,
        data: Arc<RunData>,
        allotment: Allotment,
        cx: &mut Context<'_>,
    ) -> JobState {
        cx.notify(Notice::Planned {
            dataset: data.dataset.clone(),
            total_steps: data.total_steps(),
            steps_per_epoch: data.planner.steps_per_epoch(),
            start: terms.start(),
        });
        let saved = terms.resume.clone();
        if let Some(checkpoint) = saved.filter(|at| at.next_step.0 >= data.total_steps()) {
            let steps = data.total_steps();
            return ending::end(terms, JobOutcome::Succeeded { steps, checkpoint }, cx);
        }
        let run = Self {
            data,
            committed: terms.start(),
            target: allotment.workers,
            contended: allotment.contended,
            candidates: BTreeMap::new(),
            members: Members::new(ending::unformed(terms, cx), Vec::new()),
            formed_at: cx.now,
            gone: BTreeSet::new(),
            tainted: BTreeSet::new(),
            leaving: BTreeMap::new(),
            round: None,
            applying: None,
            state: None,
            last_sum: terms.continued.as_ref().and_then(|from| from.last),
            grad_norm: 0.0,
            checkpoints: CheckpointBook::starting_with(terms.resume.clone()),
            age: SavedAge::fresh(cx.now),
            asked: None,
            progress: Progress::default(),
            trouble: Trouble::default(),
            skipped: 0,
            drain: None,
            waiting: None,
            lonely_since: cx.now,
            closing_since: None,
        };
        Box::new(run).step(terms, JobEvent::Tick, cx)
    }

    /// What follows from an event.
    pub(super) fn step(
        mut self: Box<Self>,
        terms: &JobTerms,
        event: JobEvent,
        cx: &mut Context<'_>,
    ) -> JobState {
        let reporter = match &event {
            JobEvent::Reported(worker, _) => Some(*worker),
            JobEvent::Admitted
            | JobEvent::Allotted(_)
            | JobEvent::DataPrepared(..)
            | JobEvent::DataFailed(_)
            | JobEvent::WorkerCame(..)
            | JobEvent::WorkersGone(_)
            | JobEvent::LedgerDurable(_)
            | JobEvent::LedgerFailed(..)
            | JobEvent::CancelRequested
            | JobEvent::ScaleRequested(_)
            | JobEvent::Tick => None,
        };
        let mut flow = self.take_in(terms, event, cx);
        if flow.is_continue() {
            flow = self.advance(terms, reporter, cx);
        }
        match flow {
            ControlFlow::Continue(()) => JobState::Active(self),
            ControlFlow::Break(outcome) => ending::end(terms, outcome, cx),
        }
    }

    /// Changes the facts.
    fn take_in(&mut self, terms: &JobTerms, event: JobEvent, cx: &mut Context<'_>) -> Flow {
        match event {
            JobEvent::Reported(worker, report) => {
                return self.reported(terms, worker, *report, cx);
            }
            JobEvent::WorkerCame(worker, holding) => self.came(terms, worker, holding, cx),
            JobEvent::WorkersGone(losses) => {
                for loss in &losses {
                    self.worker_gone(loss, cx);
                }
            }
            JobEvent::LedgerDurable(step) => self.durable(terms, step, cx),
            JobEvent::LedgerFailed(step, message) => {
                return self.fail(FailReason::Ledger { step, message });
            }
            JobEvent::CancelRequested => self.stop_after_step(DrainCause::Cancelled, cx),
            JobEvent::Allotted(now) => {
                self.target = now.workers;
                self.contended = now.contended;
            }
            JobEvent::Tick => return self.tick(terms, cx),
            // What follows from that is allotted.
            JobEvent::ScaleRequested(_)
            | JobEvent::Admitted
            | JobEvent::DataPrepared(..)
            | JobEvent::DataFailed(_) => {}
        }
        Flow::Continue(())
    }

    /// Does whatever the facts allow. Each part leaves alone what it has done before, so that calling this again changes
    /// nothing.
    fn advance(
        &mut self,
        terms: &JobTerms,
        reporter: Option<WorkerId>,
        cx: &mut Context<'_>,
    ) -> Flow {
        self.settle_applied(cx)?;
        self.let_go(terms, cx);
        self.reform(cx);
        if self.is_reforming() {
            return Flow::Continue(());
        }
        self.catch_up(cx);
        self.fall_back(terms, cx);
        self.form(terms, cx)?;
        self.admit(cx);
        self.invite(terms, cx);
        self.open_round(cx);
        self.save(terms, cx);
        self.sync(cx);
        self.lease(terms, reporter, cx);
        self.seal(terms, cx);
        self.wait(terms, cx);
        self.close(terms, cx)
    }

    fn tick(&mut self, terms: &JobTerms, cx: &mut Context<'_>) -> Flow {
        self.give_up_forming(terms, cx)?;
        self.give_up_candidates(cx);
        self.give_up_saving(cx);
        self.mind_age(terms, cx);
        self.face_trouble(cx)?;
        self.end_stalls(cx);
        Flow::Continue(())
    }

    /// The step in hand, as messages name it.
    #[must_use]
    pub fn current(&self) -> Round {
        self.members.membership().round(self.committed)
    }

    /// Members that are not gone, in rank order.
    #[must_use]
    pub fn live(&self) -> Vec<WorkerId> {
        let ids = self.members.ids().into_iter();
        ids.filter(|id| !self.gone.contains(id)).collect()
    }

    /// How many members are not gone.
    #[must_use]
    pub fn live_count(&self) -> usize {
        // Only members are among the gone.
        self.members.world() - self.gone.len()
    }

    /// Members that are neither gone nor about to be.
    fn staying(&self) -> Vec<WorkerId> {
        let live = self.live().into_iter();
        live.filter(|id| !self.leaving.contains_key(id)).collect()
    }

    /// How many members are neither gone nor about to be.
    fn staying_count(&self) -> usize {
        // Only members that are not gone are let go.
        self.live_count().saturating_sub(self.leaving.len())
    }

    /// Whether a worker is a member that is not gone.
    pub(super) fn is_live(&self, worker: WorkerId) -> bool {
        self.members.get(worker).is_some() && !self.gone.contains(&worker)
    }

    /// Whether too few members are left to go on.
    #[must_use]
    pub fn is_short(&self, terms: &JobTerms) -> bool {
        self.live_count() < terms.min_workers.max(1) as usize
    }

    /// Whether the sum of the step in hand is agreed on.
    fn is_decided(&self) -> bool {
        self.round.as_ref().is_some_and(StepRound::is_decided)
    }

    /// Whether slots of the step in hand are being computed.
    fn is_leasing(&self) -> bool {
        self.round.as_ref().is_some_and(StepRound::is_leasing)
    }

    /// Whether a membership was formed before.
    fn was_formed(&self) -> bool {
        self.members.membership().epoch > Epoch(0)
    }

    /// Whether nothing is left to compute.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.round.is_none() && (self.drain.is_some() || self.is_finished())
    }

    fn is_finished(&self) -> bool {
        self.committed.0 >= self.data.total_steps()
    }

    fn next_membership(&self) -> Membership {
        let now = self.members.membership();
        Membership {
            epoch: now.epoch.next(),
            ..now.clone()
        }
    }

    fn name(&self, worker: WorkerId, cx: &Context<'_>) -> WorkerName {
        match (self.members.get(worker), cx.fleet.get(worker)) {
            (Some(member), _) => member.name.clone(),
            (None, Some(record)) => record.name(worker, None),
            (None, None) => WorkerName {
                worker,
                host: "unknown".to_owned(),
                device: "unknown".to_owned(),
                rank: None,
            },
        }
    }

    fn fail(&self, reason: FailReason) -> Flow {
        Flow::Break(JobOutcome::Failed {
            reason,
            checkpoint: self.checkpoints.complete.clone(),
        })
    }
}
