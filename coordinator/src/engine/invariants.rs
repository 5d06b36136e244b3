//! What must hold after every event, whatever came in.
//!
//! A check looks at every member and every micro-batch. With a few of them it follows every event; with hundreds it follows
//! as many events as keep its cost an event that of a few dozen, or a coordinator that checks itself would fall silent.

use weft_common::id::JobId;

use super::Engine;
use super::job::JobState;
use super::round::Phase;
use super::run::{self, Run};

/// Members and micro-batches that are looked at for each event.
const LOOKED_AT: usize = 64;

/// Decides after which events everything is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Checks {
    /// What may be looked at, now.
    saved: usize,
}

impl Checks {
    /// After an event: the invariants that `engine` breaks, where it is their turn to be checked.
    pub(super) fn after_event(&mut self, engine: &Engine) -> Vec<String> {
        self.saved += LOOKED_AT;
        if self.saved < size(engine) {
            return Vec::new();
        }
        self.saved = 0;
        violations(engine)
    }
}

/// What a check looks at.
fn size(engine: &Engine) -> usize {
    let runs = engine.jobs.admitted();
    let runs = runs.filter_map(|job| match &job.state {
        JobState::Active(run) => Some(run),
        JobState::Queued | JobState::Preparing | JobState::Ended(_) => None,
    });
    runs.map(|run| {
        let slots = run.round.as_ref().map_or(0, |round| round.plan.slots.len());
        run.members.world() + run.candidates.len() + slots
    })
    .sum()
}

/// The invariants that `engine` breaks, in words; none, or something is broken.
pub(super) fn violations(engine: &Engine) -> Vec<String> {
    let mut found = Vec::new();
    for job in engine.jobs.admitted() {
        match &job.state {
            JobState::Active(run) => {
                check_members(engine, run, &mut found);
                check_owner(engine, &job.terms.id, run, &mut found);
                check_step(run, &mut found);
                check_slots(run, &mut found);
            }
            JobState::Queued | JobState::Preparing | JobState::Ended(_) => {}
        }
    }
    found
}

fn demand(holds: bool, what: impl FnOnce() -> String, found: &mut Vec<String>) {
    if !holds {
        found.push(what());
    }
}

/// Members are known, of this term, and no candidates; those that are gone wait for nothing but a decided step.
fn check_members(engine: &Engine, run: &Run, found: &mut Vec<String>) {
    let term = run.members.membership().term;
    demand(
        term == engine.term,
        || format!("members of term {term}"),
        found,
    );
    for id in run.live() {
        let known = engine.fleet.get(id).is_some();
        demand(known, || format!("member {id} is not in the fleet"), found);
        let candidate = run.candidates.contains_key(&id);
        demand(
            !candidate,
            || format!("member {id} is a candidate too"),
            found,
        );
    }
    for id in run.candidates.keys() {
        let known = engine.fleet.get(*id).is_some();
        demand(
            known,
            || format!("candidate {id} is not in the fleet"),
            found,
        );
    }
    let decided = run
        .round
        .as_ref()
        .is_some_and(super::round::StepRound::is_decided);
    demand(
        run.gone.is_empty() || decided || run.members.world() > run::ALWAYS_TOLD,
        || "members are gone and no epoch without them was formed".into(),
        found,
    );
}

/// Nobody works for two jobs.
fn check_owner(engine: &Engine, id: &JobId, run: &Run, found: &mut Vec<String>) {
    for worker in run.live().into_iter().chain(run.candidates.keys().copied()) {
        let of = engine
            .fleet
            .get(worker)
            .and_then(|record| record.job.as_ref());
        demand(
            of == Some(id),
            || format!("{worker} works for {id}, but belongs to {of:?}"),
            found,
        );
    }
}

/// The step in hand is the next to commit.
fn check_step(run: &Run, found: &mut Vec<String>) {
    let (committed, total) = (run.committed, run.data.total_steps());
    demand(
        committed.0 <= total,
        || format!("{committed} of {total} steps are committed"),
        found,
    );
    if let Some(round) = &run.round {
        let step = round.step();
        demand(
            step == committed && step.0 < total,
            || format!("step {step} is in hand after {committed} of {total}"),
            found,
        );
    }
    if let Some(applying) = &run.applying {
        let step = applying.report.step;
        demand(
            step.next() == committed,
            || format!("members apply step {step} after {committed} commits"),
            found,
        );
        demand(
            run.state.is_none(),
            || "a state is known that members still compute".into(),
            found,
        );
    }
}

/// Every slot of the step in hand is in one place, and in a member's hands if in anybody's.
fn check_slots(run: &Run, found: &mut Vec<String>) {
    let Some(round) = &run.round else { return };
    match &round.phase {
        Phase::Leasing | Phase::Reducing { .. } => {
            for (slot, places) in round.book.places() {
                demand(
                    places == 1,
                    || format!("slot {slot} is in {places} places"),
                    found,
                );
            }
            for worker in round.book.workers() {
                let member = run.is_live(worker);
                demand(member, || format!("stranger {worker} has slots"), found);
            }
        }
        Phase::Committing { record, .. } => demand(
            record.slots.len() == round.plan.slots.len(),
            || format!("step {} is recorded without all slots", record.step),
            found,
        ),
    }
    if let Phase::Reducing { sums } = &round.phase {
        demand(
            round.book.is_complete(),
            || "members sum before all slots are computed".into(),
            found,
        );
        let strangers = sums.members().any(|id| run.members.get(id).is_none());
        demand(!strangers, || "a stranger summed".into(), found);
    }
}
