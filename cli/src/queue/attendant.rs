//! Leaves what a job of the queue leaves: the same as a run.

use std::path::Path;

use weft_common::ledger::job_of;
use weft_coordinator::{Attendant, JobOutcome, JobSpec, Notice, WorkersBefore};

use crate::exit::{Exit, Failure, Problems};
use crate::output::folder::{Existing, FolderError, FolderLock, OutputFolder};
use crate::preflight::Preflight;
use crate::run::{Observer, Ready, leave, open_store};

/// Follows one job, and writes its output folder.
pub(super) struct JobAttendant {
    ready: Ready,
    observer: Observer,
    _lock: FolderLock,
}

/// Takes the output folder of a job whose turn has come.
pub(super) fn open(job: &JobSpec, cache: &Path) -> Result<JobAttendant, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let folder = OutputFolder::at(&job.output_dir);
    let existing = existing(job, &folder).map_err(|error| environment(&error))?;
    let store = open_store(&job.recipe).map_err(|error| environment(&error))?;
    let preflight = Preflight::inspect(job.recipe.clone(), cache, Problems::default())?;
    let ready = Ready {
        preflight,
        folder,
        existing,
        checkpoint: None,
        ledger_of: None,
        store,
        workers: job.workers,
        audience: None,
        cache: cache.to_owned(),
    };
    let lock = ready.open_folder(existing)?;
    let committed = job.resume.as_ref().map_or(0, |from| from.next_step.0);
    // What the ledger has beyond the checkpoint may still count.
    let counted = match job.workers_before {
        WorkersBefore::Gone => committed,
        WorkersBefore::MayReturn => u64::MAX,
    };
    let observer = Observer::new(ready.facts(committed, None), ready.folder.clone(), counted)
        .map_err(|error| environment(&error))?;
    Ok(JobAttendant {
        ready,
        observer,
        _lock: lock,
    })
}

/// What to do with what lies in the output folder. It was free when the job was handed in; now it may hold what an earlier
/// coordinator began of this very job, or somebody else's run, which nobody may touch.
fn existing(job: &JobSpec, folder: &OutputFolder) -> Result<Existing, FolderError> {
    let goes_on = job.resume.is_some() || job.workers_before == WorkersBefore::MayReturn;
    if goes_on {
        return Ok(Existing::Resume);
    }
    match folder.check(Existing::Refuse, &job.recipe) {
        Err(FolderError::Used { .. }) if is_ours(job, folder) => Ok(Existing::Overwrite),
        Ok(()) => Ok(Existing::Refuse),
        Err(error) => Err(error),
    }
}

/// Whether the folder holds nothing but this job's, or nothing that would be missed.
fn is_ours(job: &JobSpec, folder: &OutputFolder) -> bool {
    match job_of(&folder.ledger()) {
        Ok(Some(owner)) => owner == job.id,
        Ok(None) => !folder.checkpoints().exists() && !folder.adapter().exists(),
        Err(_) => false,
    }
}

impl Attendant for JobAttendant {
    fn notice(&mut self, notice: &Notice) -> Result<(), String> {
        let taken = self.observer.notice(notice, None);
        taken.map_err(|error| {
            let metrics = self.ready.folder.metrics();
            format!("cannot write {}: {error}", metrics.display())
        })
    }

    fn ended(self: Box<Self>, outcome: &JobOutcome) -> Result<(), String> {
        leave(&self.ready, &self.observer, outcome).map_err(|failure| failure.text())
    }
}
