//! Memberships: the first one, those after a loss, and those with a joiner.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_common::id::{Digest, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{Command, FormEpoch, Holding};

use super::super::action::{EpochReport, Notice};
use super::super::ballot::{Ballot, BallotVerdict};
use super::super::context::Context;
use super::super::lease::Adoption;
use super::super::members::{MemberRecord, Members};
use super::super::outcome::{Compared, FailReason};
use super::super::round::{Phase, StepRound};
use super::super::terms::JobTerms;
use super::{Flow, Run};

/// A membership of so many is told of every change at once.
pub(in super::super) const ALWAYS_TOLD: usize = 64;

/// What introducing one member to another may cost, a few times over: 0.1 s for a membership of 512.
const INTRODUCTION: Duration = Duration::from_nanos(400);

impl Run {
    /// Goes on without those that are gone, unless the step is decided: then its commit comes first.
    pub(super) fn reform(&mut self, cx: &mut Context<'_>) {
        if !self.is_reforming() || self.must_wait(cx.now) {
            return;
        }
        let gone = std::mem::take(&mut self.gone);
        let list = self.members.list().iter();
        let left = list.filter(|member| !gone.contains(&member.name.worker));
        let left: Vec<MemberRecord> = left.cloned().collect();
        if left.is_empty() {
            self.lonely_since = cx.now;
        }
        let drops = std::mem::take(&mut self.tainted);
        self.new_epoch(left, &drops, cx);
    }

    /// Whether the membership is no longer the one that can go on with the step.
    pub(super) fn is_reforming(&self) -> bool {
        let unchanged = self.gone.is_empty() && self.tainted.is_empty() && !self.trouble.retry;
        !unchanged && !self.is_decided()
    }

    /// Where workers are lost, or come, one by one in great numbers, a membership each would drown those that are left
    /// in introductions: all are told of all.
    fn must_wait(&self, now: Timestamp) -> bool {
        let world = self.members.world();
        let told = u32::try_from(world.saturating_pow(2)).unwrap_or(u32::MAX);
        world > ALWAYS_TOLD && now.since(self.formed_at) < INTRODUCTION * told
    }

    /// Makes members of candidates that hold the newest state, where there are none.
    pub(super) fn form(&mut self, terms: &JobTerms, cx: &mut Context<'_>) -> Flow {
        if !self.members.list().is_empty() || (self.drain.is_some() && !self.was_formed()) {
            return Flow::Continue(());
        }
        if self.holders().len() < self.enough(terms, cx) {
            return Flow::Continue(());
        }
        self.compare(Compared::Model, cx)?;
        self.compare(Compared::Start, cx)?;
        if self.holders().len() < self.enough(terms, cx) {
            return Flow::Continue(());
        }
        self.open_round(cx);
        self.join_holders(cx);
        self.state = self.members.list().first().map(|m| m.engine.state_digest);
        if let (Some(applying), Some(state)) = (self.applying.take(), self.state) {
            cx.notify(Notice::StepCommitted(applying.into_report(state)));
        }
        Flow::Continue(())
    }

    /// How many holders make a membership. The first one waits for all that the job wants. Later, one suffices: too few
    /// compute nothing, but others can copy the state from them.
    fn enough(&self, terms: &JobTerms, cx: &Context<'_>) -> usize {
        if self.was_formed() || terms.continued.is_some() {
            return 1;
        }
        let waited = cx.now.since(self.lonely_since);
        let wanted = if waited < terms.form_within {
            // Where others wait for workers, or it was scaled down since, the job starts with what it gets.
            terms.gang.min(self.target).max(terms.min_workers)
        } else {
            terms.min_workers
        };
        wanted.max(1) as usize
    }

    /// Fails a job whose first membership takes too long.
    pub(super) fn give_up_forming(&mut self, terms: &JobTerms, cx: &mut Context<'_>) -> Flow {
        let waited = cx.now.since(self.lonely_since);
        let first = !self.was_formed() && terms.continued.is_none();
        let ready = self.holders().len();
        let needed = terms.min_workers.max(1);
        if !first || waited < terms.form_within || ready >= needed as usize {
            return Flow::Continue(());
        }
        self.fail(FailReason::NotEnoughWorkers {
            needed,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            attached: u32::try_from(cx.fleet.attached().count()).unwrap_or(u32::MAX),
            waited,
        })
    }

    /// Candidates that hold the newest state.
    pub(super) fn holders(&self) -> Vec<(WorkerId, &Holding)> {
        let ready = self
            .candidates
            .iter()
            .filter_map(|(worker, candidate)| Some((*worker, candidate.ready()?)));
        ready
            .filter(|(_, holding)| holding.next_step == self.committed)
            .collect()
    }

    /// Holders must have the same base and state, or their gradients mean nothing to each other. Those that differ from
    /// what the job knows, or else from the majority, are sent away.
    fn compare(&mut self, what: Compared, cx: &mut Context<'_>) -> Flow {
        let digest = |holding: &Holding| match what {
            Compared::Model => holding.engine.model_digest,
            Compared::Start | Compared::Sum | Compared::State => holding.engine.state_digest,
        };
        let known = self.state.filter(|_| what != Compared::Model);
        let mut ballot = Ballot::default();
        for (worker, holding) in self.holders() {
            // A worker is a candidate once.
            let _ = ballot.cast(worker, digest(holding));
        }
        let odd = match (known, ballot.verdict(self.holders().len())) {
            (Some(known), _) => ballot.others(known),
            (None, BallotVerdict::Split(odd)) => odd,
            (None, BallotVerdict::Open | BallotVerdict::Unanimous(_)) => Vec::new(),
        };
        if known.is_none() && odd.len() == self.holders().len() && !odd.is_empty() {
            return self.fail(FailReason::Disagreement {
                what,
                step: self.committed,
                odd: odd.iter().map(|worker| self.name(*worker, cx)).collect(),
            });
        }
        for worker in odd {
            self.turn_away(worker, &format!("it differs from the others in {what}"), cx);
        }
        Flow::Continue(())
    }

    /// Makes members of candidates that hold the newest state, beside those there are.
    pub(super) fn admit(&mut self, cx: &mut Context<'_>) {
        let (Some(state), true) = (self.state, self.is_leasing()) else {
            return;
        };
        if self.candidates.is_empty() || self.must_wait(cx.now) {
            return;
        }
        let Some(model) = self.members.list().first().map(|m| m.engine.model_digest) else {
            return;
        };
        let differs = |holding: &Holding| {
            (holding.engine.state_digest, holding.engine.model_digest) != (state, model)
        };
        let odd: Vec<WorkerId> = self
            .holders()
            .iter()
            .filter(|(_, holding)| differs(holding))
            .map(|(worker, _)| *worker)
            .collect();
        for worker in odd {
            self.turn_away(
                worker,
                "its base model or state differs from the members'",
                cx,
            );
        }
        if !self.holders().is_empty() && self.staying_count() < self.target as usize {
            self.join_holders(cx);
        }
    }

    /// The next epoch: those there are, and as many holders as there is room for.
    fn join_holders(&mut self, cx: &mut Context<'_>) {
        let mut list: Vec<MemberRecord> = self.members.list().to_vec();
        let room = (self.target as usize).saturating_sub(self.staying_count());
        let joiners: Vec<(WorkerId, Holding)> = self
            .holders()
            .into_iter()
            .take(room)
            .map(|(worker, holding)| (worker, holding.clone()))
            .collect();
        let mut drops = BTreeSet::new();
        for (worker, holding) in joiners {
            self.candidates.remove(&worker);
            list.extend(Self::record(worker, &holding, cx));
            let adoption = self
                .round
                .as_mut()
                .map(|round| round.book.adopt(worker, &holding.slots));
            if adoption == Some(Adoption::Refused) {
                drops.insert(worker);
            }
        }
        self.new_epoch(list, &drops, cx);
    }

    /// A new membership goes on with the step in hand. Members in `drops` forget what their accumulators hold.
    fn new_epoch(
        &mut self,
        list: Vec<MemberRecord>,
        drops: &BTreeSet<WorkerId>,
        cx: &mut Context<'_>,
    ) {
        self.members = Members::new(self.next_membership(), list);
        self.formed_at = cx.now;
        self.trouble.settled();
        if let Some(round) = &mut self.round {
            match round.phase {
                Phase::Reducing { .. } => round.unseal(),
                Phase::Leasing | Phase::Committing { .. } => {}
            }
        }
        if self.members.list().is_empty() {
            return;
        }
        let introductions = self.members.introductions();
        for worker in self.members.ids() {
            let command = Command::FormEpoch(FormEpoch {
                membership: self.members.membership().clone(),
                members: introductions.clone(),
                step: self.committed,
                keep: !drops.contains(&worker),
            });
            self.progress.touch(worker, cx.now);
            cx.send(worker, command);
        }
        let described = self.members.list().iter();
        cx.notify(Notice::EpochFormed(EpochReport {
            epoch: self.members.membership().epoch,
            step: self.committed,
            total_steps: self.data.total_steps(),
            members: described
                .map(|member| (member.name.clone(), member.engine.clone()))
                .collect(),
        }));
    }

    /// Takes the next step in hand, where one is left.
    pub(super) fn open_round(&mut self, cx: &mut Context<'_>) {
        let due = self.round.is_none() && self.drain.is_none() && !self.is_finished();
        if due {
            let plan = self.data.planner.step(self.committed);
            self.round = Some(StepRound::new(plan, cx.now));
        }
    }
}

impl Ballot {
    /// Those who did not vote for `digest`.
    fn others(&self, digest: Digest) -> Vec<WorkerId> {
        self.voters_outside(Some(digest))
    }
}
