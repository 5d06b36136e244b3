//! A job whose world is healed comes to its end.

use weft_coordinator::engine::JobOutcome;

use super::Facts;

pub(super) fn end(facts: &mut Facts, outcome: Option<&JobOutcome>) {
    if !facts.violations.is_empty() {
        return;
    }
    let succeeded = matches!(outcome, Some(JobOutcome::Succeeded { .. }));
    facts.demand(succeeded, || match outcome {
        Some(outcome) => format!("liveness: the job {outcome}"),
        None => "liveness: the job did not come to its end".to_owned(),
    });
}
