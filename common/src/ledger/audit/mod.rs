//! What a ledger proves.
//!
//! ```text
//! ledger ──► order: steps without gap, terms and memberships forward, every state once
//!        ──► coverage: each row once a pass over the data
//!        ──► sums: the digests of a step's slots add up to that of its gradient
//!        ──► plan: every slot is the one that recipe and dataset ask for
//!        ──► witnesses: the metrics and checkpoints that the run left beside it say the same
//! ```
//!
//! [`read`](super::read) has found the chain of lines intact before. That chain has no signature: whoever can write the
//! folder can change a line and chain all later ones anew. What then still gives it away are the plan, which is computed
//! and not read, and the witnesses, which would have to be changed as well.

mod coverage;
mod evidence;
mod findings;
mod order;
mod plan;
mod report;
mod sums;
mod witnesses;

#[cfg(test)]
mod tests;

pub use evidence::{Evidence, LeftAdapter, LoggedStep, Planned, SavedState};
pub use findings::{Finding, Findings};
pub use report::{Audit, DataEpoch, LossPoint, Recomputed, Share};

use coverage::Coverage;

/// Holds a ledger against everything that is known of its run.
#[must_use]
pub fn audit(mut evidence: Evidence<'_>) -> Audit {
    let foreign = witnesses::foreign_plan(&evidence);
    if foreign.is_some() {
        evidence.planned = None;
    }
    let mut findings = Findings::default();
    order::check(evidence.ledger, &mut findings);
    let proven_sums = sums::check(evidence.ledger, &mut findings);
    let coverage = Coverage::of(&evidence, &mut findings);
    if let Some(planned) = &evidence.planned {
        plan::check(evidence.ledger, planned, &mut findings);
    }
    witnesses::check_logged(&evidence, &mut findings);
    witnesses::check_saved(&evidence, &mut findings);
    witnesses::check_adapter(&evidence, &mut findings);
    let mut audit = Audit::new(&evidence, coverage, findings);
    audit.proven_sums = proven_sums;
    audit.unproven.extend(foreign);
    audit
}
