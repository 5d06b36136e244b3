//! Brings the database and the jobs' files together: what one of them lacks is taken from the other, and from the jobs'
//! ledgers.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, Transaction};
use tracing::warn;
use weft_common::id::JobId;
use weft_common::ledger::{self, CommitRecord};
use weft_proto::v1;

use super::error::RecordsError;
use super::files::{JobFile, JobFiles};
use super::{history, jobs};
use crate::clock::unix_ms;
use crate::view::JobView;

/// After this every job that has a file is in the database, and over there if it is over in its file. A job that cannot
/// be handed in again, because its file is gone or broken, is over.
pub(super) fn reconcile(
    database: &mut Connection,
    path: &Path,
    files: &JobFiles,
) -> Result<(), RecordsError> {
    let failed = |error: rusqlite::Error| RecordsError::of("write", path, &error);
    let known = jobs::known(database).map_err(failed)?;
    let filed: BTreeSet<JobId> = files.ids()?.into_iter().collect();
    let change = database.transaction().map_err(failed)?;
    // Jobs that are over are the many, and need no second look.
    let open = known.iter().filter(|(_, over)| !**over).map(|(id, _)| id);
    let unknown = filed.iter().filter(|id| !known.contains_key(*id));
    for id in open.chain(unknown) {
        take_in(&change, files.read(id), id, known.contains_key(id)).map_err(failed)?;
    }
    change.commit().map_err(failed)
}

fn take_in(
    to: &Transaction<'_>,
    file: Result<JobFile, RecordsError>,
    id: &JobId,
    known: bool,
) -> rusqlite::Result<()> {
    let found = file
        .map_err(|error| error.to_string())
        .and_then(|file| Ok((view(&file)?, file)));
    match found {
        Ok((view, _)) if known && view.phase.is_over() => jobs::update(to, &view),
        Ok(_) if known => Ok(()),
        Ok((view, file)) => rebuild(to, view, file.number),
        Err(reason) => {
            warn!(job = %id, reason, "a job cannot be handed in again");
            if known {
                give_up(to, id, &reason)
            } else {
                Ok(())
            }
        }
    }
}

/// The job as its file knows it.
fn view(file: &JobFile) -> Result<JobView, String> {
    let mut view = JobView::submitted(&file.spec()?, file.submitted_unix_ms);
    view.started_unix_ms = file.started_unix_ms;
    if let Some(ended) = &file.ended {
        view.ended_unix_ms = Some(ended.unix_ms);
        view.phase = ended.phase;
        view.detail.clone_from(&ended.detail);
        view.committed_steps = ended.committed_steps;
        view.total_steps = ended.total_steps;
        view.incidents = ended.incidents;
        view.waits = None;
    }
    Ok(view)
}

/// A job that the database does not know. One that never had its turn has lost nothing.
fn rebuild(to: &Transaction<'_>, mut view: JobView, number: u64) -> rusqlite::Result<()> {
    let Some(_) = view.started_unix_ms else {
        return jobs::submit(to, &view, number);
    };
    let steps = match ledger::read(&view.output_dir.join("ledger")) {
        Ok(ledger) if ledger.job.as_ref() == Some(&view.id) => figures(&ledger.records),
        Ok(_) => Vec::new(),
        Err(error) => {
            warn!(job = %view.id, %error, "the figures of a job's steps stay lost");
            Vec::new()
        }
    };
    if let Some(last) = steps.last() {
        view.committed_steps = view.committed_steps.max(last.step);
        view.loss = Some(last.loss);
    }
    jobs::submit(to, &view, number)?;
    for step in &steps {
        history::stepped(to, &view.id, step)?;
    }
    history::happened(to, Some(&view.id), unix_ms(), &history::rebuilt())
}

/// What a ledger knows of the steps: neither when nor how fast.
fn figures(records: &[CommitRecord]) -> Vec<v1::StepFigures> {
    let norms = records.iter().skip(1).map(|next| next.previous_grad_norm);
    let norms = norms.chain([f64::NAN]);
    let each = records.iter().zip(norms);
    each.map(|(record, grad_norm)| {
        let workers: BTreeSet<_> = record.slots.iter().map(|slot| slot.worker).collect();
        v1::StepFigures {
            step: record.step.0 + 1,
            unix_ms: 0,
            loss: record.mean_loss(),
            grad_norm,
            learning_rate: record.learning_rate,
            tokens: record.slots.iter().map(|slot| slot.tokens).sum(),
            supervised_tokens: record.slots.iter().map(|slot| slot.supervised_tokens).sum(),
            step_seconds: 0.0,
            workers: u32::try_from(workers.len()).unwrap_or(u32::MAX),
            epoch: f64::from(record.data_epoch),
        }
    })
    .collect()
}

fn give_up(to: &Transaction<'_>, id: &JobId, reason: &str) -> rusqlite::Result<()> {
    match jobs::job(to, id)? {
        Some(view) => jobs::update(to, &view.given_up(reason, unix_ms())),
        None => Ok(()),
    }
}
