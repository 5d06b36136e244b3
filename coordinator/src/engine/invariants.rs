//! What must hold after every event, whatever came in.

use super::Engine;
use super::draining::Draining;
use super::job::JobState;
use super::members::Members;
use super::round::Phase;
use super::running::Running;

/// The invariants that `engine` breaks, in words; none, or something is broken.
pub(super) fn violations(engine: &Engine) -> Vec<String> {
    let mut found = Vec::new();
    match engine.job.as_ref().map(|job| &job.state) {
        Some(JobState::Running(running)) => {
            check_members(engine, &running.members, &mut found);
            check_running(running, &mut found);
        }
        Some(JobState::Draining(draining)) => {
            check_members(engine, &draining.members, &mut found);
            check_draining(draining, &mut found);
        }
        Some(JobState::Preparing | JobState::Forming(_) | JobState::Ended(_)) | None => {}
    }
    found
}

fn demand(holds: bool, what: impl FnOnce() -> String, found: &mut Vec<String>) {
    if !holds {
        found.push(what());
    }
}

/// Members are alive, of this term, and at least one.
fn check_members(engine: &Engine, members: &Members, found: &mut Vec<String>) {
    demand(
        members.world() > 0,
        || "an epoch has no members".into(),
        found,
    );
    let term = members.membership().term;
    demand(
        term == engine.term,
        || format!("members of term {term}"),
        found,
    );
    for id in members.ids() {
        let alive = engine.fleet.get(id).is_some();
        demand(alive, || format!("member {id} is not in the fleet"), found);
    }
}

fn check_running(running: &Running, found: &mut Vec<String>) {
    let (step, plan) = (running.round.step(), &running.round.plan);
    let total = running.data.total_steps();
    demand(
        step.0 < total,
        || format!("step {} of {total} is in hand", step),
        found,
    );
    match &running.round.phase {
        Phase::Leasing(book) => {
            demand(
                book.step() == step,
                || format!("leases of step {} in step {}", book.step(), step),
                found,
            );
            for (slot, places) in book.places() {
                demand(
                    places == 1,
                    || format!("slot {slot} is in {places} places"),
                    found,
                );
            }
            for holder in book.holders() {
                let member = running.members.get(holder).is_some();
                demand(member, || format!("stranger {holder} holds a lease"), found);
            }
        }
        Phase::Reducing {
            accepted, ballot, ..
        } => {
            let supervised: u64 = accepted.iter().map(|a| a.outcome.supervised).sum();
            demand(
                supervised == plan.supervised_tokens(),
                || {
                    format!(
                        "sealed {supervised} of {} supervised tokens",
                        plan.supervised_tokens()
                    )
                },
                found,
            );
            let strangers = ballot.voters().any(|id| running.members.get(id).is_none());
            demand(!strangers, || "a stranger voted".into(), found);
        }
        Phase::Committing { record, .. } => demand(
            record.step == step,
            || format!("commits step {} in step {}", record.step, step),
            found,
        ),
    }
}

/// Draining waits for something: else the job would never end.
fn check_draining(draining: &Draining, found: &mut Vec<String>) {
    let waits = draining.applying.is_some() || draining.checkpoints.in_flight.is_some();
    demand(waits, || "draining waits for nothing".into(), found);
}
