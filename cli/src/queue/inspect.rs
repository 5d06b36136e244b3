//! What is looked at before a queue takes a job: the same as before a run.

use std::path::Path;

use weft_common::checkpoint::{Checkpoint, newest_complete};
use weft_common::ledger::job_of;
use weft_common::store::Store;
use weft_common::wire::CheckpointRef;
use weft_coordinator::{JobSpec, StartFrom, WorkersBefore};

use crate::exit::{Exit, Failure, Problems};
use crate::output::folder::{Existing, OutputFolder};
use crate::plan::least_memory_bytes;
use crate::preflight::Preflight;
use crate::recipe::worker_count;
use crate::run::{check_disk, newest_shared, open_store};

/// Looks at everything; gives the job with the checkpoint that it goes on from, and what its workers must have.
pub(super) fn inspect(mut job: JobSpec, from: StartFrom, cache: &Path) -> Result<JobSpec, Failure> {
    let folder = OutputFolder::at(&job.output_dir);
    let existing = match from {
        StartFrom::Scratch => Existing::Refuse,
        StartFrom::Newest => Existing::Resume,
    };
    let mut problems = Problems::default();
    problems.keep(
        Exit::Recipe,
        worker_count(&job.recipe, Some(job.workers), 0),
    );
    problems.keep(Exit::Environment, folder.check(existing, &job.recipe));
    let store = problems.keep(Exit::Environment, open_store(&job.recipe));
    let newest = match from {
        StartFrom::Scratch => None,
        StartFrom::Newest => newest(
            &job,
            &folder,
            store.flatten().as_ref(),
            cache,
            &mut problems,
        ),
    };
    let preflight = Preflight::inspect(job.recipe.clone(), cache, problems)?;
    check_disk(&preflight, &folder)?;
    job.needs.memory_bytes = job.needs.memory_bytes.max(least_memory_bytes(&preflight));
    if from == StartFrom::Newest {
        // Its checkpoints and its ledger are that job's.
        let former = newest.as_ref().map(|at| at.manifest.meta.job.clone());
        let former = former.or_else(|| job_of(&folder.ledger()).ok().flatten());
        job.id = former.unwrap_or(job.id);
        job.resume = newest.map(at);
    }
    Ok(job)
}

/// A job that was started before, with its newest checkpoint.
pub(super) fn go_on(mut job: JobSpec, cache: &Path) -> Result<JobSpec, Failure> {
    let folder = OutputFolder::at(&job.output_dir);
    let mut problems = Problems::default();
    let store = problems.keep(Exit::Environment, open_store(&job.recipe));
    let found = newest(
        &job,
        &folder,
        store.flatten().as_ref(),
        cache,
        &mut problems,
    );
    problems.finish()?;
    job.resume = found.map(at).or(job.resume);
    let begun = job_of(&folder.ledger()).ok().flatten();
    if begun.as_ref() != Some(&job.id) {
        // Its turn had come, and nothing more: no worker can hold anything.
        job.workers_before = WorkersBefore::Gone;
    }
    Ok(job)
}

fn newest(
    job: &JobSpec,
    folder: &OutputFolder,
    store: Option<&Store>,
    cache: &Path,
    problems: &mut Problems,
) -> Option<Checkpoint> {
    let local = problems.keep(Exit::Environment, newest_complete(&folder.checkpoints()))?;
    for skipped in &local.skipped {
        tracing::warn!(job = %job.id, %skipped, "a checkpoint does not count");
    }
    let Some(store) = store else {
        return local.checkpoint;
    };
    let newest = newest_shared(store, &job.recipe, local.checkpoint, (folder, cache));
    problems.keep(Exit::Environment, newest)?.checkpoint
}

fn at(checkpoint: Checkpoint) -> CheckpointRef {
    CheckpointRef {
        next_step: checkpoint.manifest.meta.step,
        dir: checkpoint.folder,
    }
}
