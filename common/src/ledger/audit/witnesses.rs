//! Whether what else the run left says the same.

use super::super::read::Ledger;
use super::super::record::CommitRecord;
use super::{Evidence, Findings, LoggedStep};
use crate::id::Step;

/// Compares the lines that the run wrote about its steps.
pub(super) fn check_logged(evidence: &Evidence<'_>, findings: &mut Findings) {
    let ledger = evidence.ledger;
    for logged in evidence.logged {
        let Some((index, record)) = record_of(ledger, logged.step) else {
            let what = format!(
                "step {} was reported, but is not in the ledger, which has {}",
                logged.step.next(),
                extent(ledger)
            );
            findings.at(Some(logged.place.clone()), what);
            continue;
        };
        for (what, said, found) in differences(logged, record) {
            let what = format!(
                "step {} has {what} {found}, but {} says {said}",
                record.step.next(),
                logged.place
            );
            findings.at(ledger.place(index), what);
        }
    }
}

/// What a line says otherwise than the record: what, as it says, as the record has it.
fn differences(
    logged: &LoggedStep,
    record: &CommitRecord,
) -> impl Iterator<Item = (&'static str, String, String)> {
    let loss = record.mean_loss();
    // The same sums give the same bits; any diverged loss is as good as another.
    let same_loss =
        loss.to_bits() == logged.loss.to_bits() || loss.is_nan() && logged.loss.is_nan();
    let sum =
        |count: fn(&super::super::SlotRecord) -> u64| record.slots.iter().map(count).sum::<u64>();
    let counts = [
        ("rows", logged.rows, sum(|slot| slot.rows.len() as u64)),
        ("tokens", logged.tokens, sum(|slot| slot.tokens)),
        (
            "supervised tokens",
            logged.supervised_tokens,
            sum(|slot| slot.supervised_tokens),
        ),
    ];
    let counts = counts.into_iter().filter(|(_, said, found)| said != found);
    let counts = counts.map(|(what, said, found)| (what, said.to_string(), found.to_string()));
    let loss = (!same_loss).then(|| ("loss", logged.loss.to_string(), loss.to_string()));
    loss.into_iter().chain(counts)
}

/// Compares the states that the run saved.
pub(super) fn check_saved(evidence: &Evidence<'_>, findings: &mut Findings) {
    let ledger = evidence.ledger;
    for saved in evidence.saved {
        let meta = &saved.manifest.meta;
        if let Some(job) = ledger.job.as_ref().filter(|job| **job != meta.job) {
            let what = format!(
                "the checkpoint is of job {}, the ledger of job {job}",
                meta.job
            );
            findings.within(&saved.folder, what);
        }
        match record_of(ledger, meta.step) {
            Some((index, record)) if record.state_digest != saved.manifest.state_digest => {
                let what = format!(
                    "step {} starts from another state than {} holds",
                    record.step.next(),
                    saved.folder.display()
                );
                findings.at(ledger.place(index), what);
            }
            None if ledger.next_step().unwrap_or_default() < meta.step => {
                let what = format!(
                    "the checkpoint holds {} steps, but the ledger has {}: lines were removed from its end",
                    meta.step,
                    extent(ledger)
                );
                findings.within(&saved.folder, what);
            }
            Some(_) | None => {}
        }
    }
}

/// Compares the adapter that the run left with that of its last checkpoint.
pub(super) fn check_adapter(evidence: &Evidence<'_>, findings: &mut Findings) {
    let (Some(adapter), Some(last)) = (evidence.adapter, evidence.saved.last()) else {
        return;
    };
    let name = adapter.path.file_name().unwrap_or_default();
    let files = &last.manifest.files;
    match files.iter().find(|file| name == file.name.as_str()) {
        Some(file) if file.sha256 == adapter.sha256 => {}
        Some(_) | None => {
            let what = format!("the adapter is not that of {}", last.folder.display());
            findings.within(&adapter.path, what);
        }
    }
}

/// Why the plan at hand is not that of the run, where a checkpoint says so.
pub(super) fn foreign_plan(evidence: &Evidence<'_>) -> Option<String> {
    let planned = evidence.planned.as_ref()?;
    let differing = evidence.saved.iter().find_map(|saved| {
        let inputs = &saved.manifest.meta.inputs;
        let pairs = [
            ("recipe", inputs.recipe, planned.recipe),
            ("dataset", inputs.dataset, planned.dataset),
        ];
        let pair = pairs.into_iter().find(|(_, run, here)| run != here);
        pair.map(|(what, run, here)| (what, run, here, saved))
    });
    let (what, run, here, saved) = differing?;
    Some(format!(
        "the plan: the {what} at hand is not that of the run, whose digest is {run} by {}; here it is {here}",
        saved.folder.display()
    ))
}

/// The record of a step that counts, with its place among them.
pub(super) fn record_of(ledger: &Ledger, step: Step) -> Option<(usize, &CommitRecord)> {
    let first = ledger.records.first()?.step;
    let index = usize::try_from(step.0.checked_sub(first.0)?).ok()?;
    ledger.records.get(index).map(|record| (index, record))
}

fn extent(ledger: &Ledger) -> String {
    match (ledger.records.first(), ledger.records.last()) {
        (Some(first), Some(last)) => format!("steps {} to {}", first.step.next(), last.step.next()),
        _ => "no steps".to_owned(),
    }
}
