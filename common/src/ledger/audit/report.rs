//! What an audit comes to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::read::Ledger;
use super::super::record::{CommitRecord, Update};
use super::coverage::Coverage;
use super::witnesses::record_of;
use super::{Evidence, Finding, Findings};
use crate::id::{JobId, Step, WorkerId};

/// What a ledger proves of its run. Steps count from 1, as in everything that people read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Audit {
    /// Whose ledger it is; `None` where nothing was ever written.
    pub job: Option<JobId>,
    /// Committed steps that count.
    pub steps: u64,
    /// Steps that the plan has; `None` where there is none.
    pub planned_steps: Option<u64>,
    /// Steps among the committed ones that changed nothing, because their gradient was not finite.
    pub skipped_steps: u64,
    /// Committed steps whose gradient has the digest that the digests of its slots add up to.
    pub proven_sums: u64,
    /// Rows of the dataset, where they are known.
    pub rows: Option<u64>,
    /// The passes over the data, in order; the last may be cut short.
    pub data_epochs: Vec<DataEpoch>,
    /// Slots that counted.
    pub slots: u64,
    /// Whether each of them was compared with the plan.
    pub plan_compared: bool,
    /// Tokens that counted.
    pub tokens: u64,
    /// Supervised tokens that counted.
    pub supervised_tokens: u64,
    /// Incarnations of the coordinator that committed something.
    pub terms: u64,
    /// Generations of the membership that computed something.
    pub membership_epochs: u64,
    /// Who computed, the busiest first.
    pub workers: Vec<Share>,
    /// What was computed again.
    pub recomputed: Recomputed,
    /// Lines of `metrics.jsonl` that were compared.
    pub logged_steps: u64,
    /// Checkpoints that are there.
    pub checkpoints: u64,
    /// Those among them whose state was compared with the one that the next step started from; after the last step there
    /// is none.
    pub compared_checkpoints: u64,
    /// The loss of every step that counts.
    pub losses: Vec<LossPoint>,
    /// Lines that were never committed and are left out.
    pub left_out: Vec<String>,
    /// What should not be.
    pub findings: Findings,
    /// What could not be proven, and why.
    pub unproven: Vec<String>,
}

/// A pass over the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataEpoch {
    /// Which, from 0.
    pub data_epoch: u32,
    /// Its committed steps.
    pub steps: u64,
    /// Different rows that counted.
    pub rows: u64,
    /// How often a row counted that had counted before.
    pub repeated: u64,
    /// Whether all of its steps are there.
    pub complete: bool,
}

/// A worker's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Which.
    pub worker: WorkerId,
    /// Its slots that counted.
    pub slots: u64,
}

/// Steps whose record was replaced by a later one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recomputed {
    /// Replaced records.
    pub records: u64,
    /// Those among them whose replacement has other sums or another state, although the plan is the same.
    pub different: Vec<Step>,
}

/// A point of the loss curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LossPoint {
    /// The step, from 1.
    pub step: u64,
    /// Mean loss of its supervised tokens.
    pub loss: f64,
}

impl Audit {
    pub(super) fn new(evidence: &Evidence<'_>, coverage: Coverage<'_>, findings: Findings) -> Self {
        let ledger = evidence.ledger;
        let records = &ledger.records;
        let slots = || records.iter().flat_map(|record| &record.slots);
        let skipped = records
            .iter()
            .filter(|record| record.update == Update::Skip);
        let terms: BTreeSet<_> = records.iter().map(|record| record.term).collect();
        let memberships: BTreeSet<_> = records
            .iter()
            .map(|record| (record.term, record.epoch))
            .collect();
        let compared = evidence.saved.iter();
        let compared =
            compared.filter(|saved| record_of(ledger, saved.manifest.meta.step).is_some());
        let planner = evidence.planned.as_ref().map(|planned| planned.planner);
        let torn = ledger.torn.iter().map(ToString::to_string);
        Self {
            job: ledger.job.clone(),
            steps: records.len() as u64,
            planned_steps: planner.map(crate::plan::StepPlanner::total_steps),
            skipped_steps: skipped.count() as u64,
            proven_sums: 0,
            rows: coverage.rows(),
            data_epochs: coverage.epochs,
            slots: slots().count() as u64,
            plan_compared: planner.is_some(),
            tokens: slots().map(|slot| slot.tokens).sum(),
            supervised_tokens: slots().map(|slot| slot.supervised_tokens).sum(),
            terms: terms.len() as u64,
            membership_epochs: memberships.len() as u64,
            workers: shares(ledger),
            recomputed: recomputed(ledger),
            logged_steps: evidence.logged.len() as u64,
            checkpoints: evidence.saved.len() as u64,
            compared_checkpoints: compared.count() as u64,
            losses: records.iter().map(LossPoint::of).collect(),
            left_out: torn
                .chain(ledger.fenced.iter().map(ToString::to_string))
                .collect(),
            findings,
            unproven: Vec::new(),
        }
    }

    /// Of a ledger that breaks its rules, so that it proves nothing.
    #[must_use]
    pub fn unreadable(finding: Finding) -> Self {
        Self {
            findings: Findings::one(finding),
            ..Self::default()
        }
    }

    /// Whether nothing speaks against the ledger.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings.count == 0
    }
}

impl LossPoint {
    fn of(record: &CommitRecord) -> Self {
        Self {
            step: record.step.next().0,
            loss: record.mean_loss(),
        }
    }
}

fn shares(ledger: &Ledger) -> Vec<Share> {
    let mut slots: BTreeMap<WorkerId, u64> = BTreeMap::new();
    for slot in ledger.records.iter().flat_map(|record| &record.slots) {
        *slots.entry(slot.worker).or_default() += 1;
    }
    let mut shares: Vec<Share> = slots
        .into_iter()
        .map(|(worker, slots)| Share { worker, slots })
        .collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.slots));
    shares
}

fn recomputed(ledger: &Ledger) -> Recomputed {
    let mut different = BTreeSet::new();
    for before in &ledger.replaced {
        if record_of(ledger, before.step).is_some_and(|(_, now)| !same_result(before, now)) {
            different.insert(before.step.next());
        }
    }
    Recomputed {
        records: ledger.replaced.len() as u64,
        different: different.into_iter().collect(),
    }
}

/// Whether two computations of a step came to the same bits, whoever did them.
fn same_result(a: &CommitRecord, b: &CommitRecord) -> bool {
    let slots = |record: &CommitRecord| {
        let slots = record.slots.iter();
        slots
            .map(|slot| (slot.rows.clone(), slot.loss_sum.to_bits(), slot.digest))
            .collect::<Vec<_>>()
    };
    (a.gradient_digest, a.state_digest, a.update) == (b.gradient_digest, b.state_digest, b.update)
        && slots(a) == slots(b)
}
