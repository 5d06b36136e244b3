//! The recipe's shared store, before a run and after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_common::checkpoint::{Checkpoint, Defect, SharedCheckpoints, folder_step};
use weft_common::id::{JobId, Step};
use weft_common::ledger::{self, FetchError};
use weft_common::recipe::Recipe;
use weft_common::storage::StorageError;
use weft_common::store::{Store, StoreError, StoreLimits};

use crate::output::folder::OutputFolder;
use crate::output::print;

/// A person waits, and a store that is down may as well be told at once.
const RETRY_WITHIN: Duration = Duration::from_secs(10);

/// Opens the store that the recipe names and makes sure that it can be written to.
pub(crate) fn open(recipe: &Recipe) -> Result<Option<Store>, StoreError> {
    let Some(url) = recipe.training.store_url() else {
        return Ok(None);
    };
    let limits = StoreLimits {
        retry_within: RETRY_WITHIN,
        ..StoreLimits::default()
    };
    let store = Store::open_within(&url, limits)?;
    store.creation()?;
    Ok(Some(store))
}

/// What a store has of an earlier run.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// The checkpoint to go on from, of this machine or of the store.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The job whose ledger is only in the store.
    pub(crate) ledger_of: Option<JobId>,
}

/// Looks for the newest complete checkpoint of output folder and store. Those passed over are told.
pub(crate) fn newest(
    store: &Store,
    recipe: &Recipe,
    local: Option<Checkpoint>,
    (folder, cache): (&OutputFolder, &Path),
) -> Result<Earlier, FetchError> {
    let Some(shared) = earlier_run(store, recipe, local.as_ref(), folder)? else {
        return Ok(Earlier {
            checkpoint: local,
            ledger_of: None,
        });
    };
    let after = local.as_ref().map(|local| local.manifest.meta.step);
    // A machine that dies may leave a checkpoint in the store whose last step is not in the ledger there.
    let until = shipped_until(store, shared.job(), folder)?;
    let newest = shared.fetch_newest(cache, after, until)?;
    for skipped in &newest.skipped {
        print::error(format_args!("warning: {skipped}"));
    }
    if let Some(found) = &newest.checkpoint {
        let step = found.manifest.meta.step;
        print::error(format_args!("going on from {}", shared.address(step)));
    }
    Ok(Earlier {
        checkpoint: newest.checkpoint.or(local),
        ledger_of: until.map(|_| shared.job().clone()),
    })
}

/// The step that follows the ledger in the store; nothing where this machine has the ledger, or the store has none.
fn shipped_until(
    store: &Store,
    job: &JobId,
    folder: &OutputFolder,
) -> Result<Option<Step>, FetchError> {
    if ledger::job_of(&folder.ledger())?.is_some() {
        return Ok(None);
    }
    let scratch = tempfile::tempdir()
        .map_err(|error| StorageError::new("create", &std::env::temp_dir(), error))?;
    let ledger = ledger::fetch_ledger(store, job, scratch.path())?;
    Ok(ledger.next_step())
}

/// The job whose checkpoints in the store belong to this output folder. Where the folder has nothing left, the newest job
/// of the same recipe.
fn earlier_run(
    store: &Store,
    recipe: &Recipe,
    local: Option<&Checkpoint>,
    folder: &OutputFolder,
) -> Result<Option<SharedCheckpoints>, StoreError> {
    let of_checkpoint = local.map(|local| local.manifest.meta.job.clone());
    let job = of_checkpoint.or_else(|| ledger::job_of(&folder.ledger()).ok().flatten());
    match job {
        Some(job) => Ok(Some(SharedCheckpoints::new(store.clone(), job))),
        None => SharedCheckpoints::of_recipe(store, &recipe.digest()),
    }
}

/// The folder of a checkpoint of the run that just ended, fetched where a worker of another machine wrote it.
pub(super) fn on_this_machine(
    store: Option<&Store>,
    recipe: &Recipe,
    dir: &Path,
    cache: &Path,
) -> Result<PathBuf, Defect> {
    let (false, Some(store), Some(step)) = (dir.exists(), store, folder_step(dir)) else {
        return Ok(dir.to_owned());
    };
    match SharedCheckpoints::of_recipe(store, &recipe.digest())? {
        Some(shared) => Ok(shared.fetch(step, cache)?.folder),
        None => Ok(dir.to_owned()),
    }
}
