//! The recipe's shared store, before a run and after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_common::checkpoint::{Checkpoint, Defect, SharedCheckpoints, folder_step};
use weft_common::ledger;
use weft_common::recipe::Recipe;
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

/// The checkpoint to go on from: the newest complete one of output folder and store. Those passed over are told.
pub(crate) fn newest(
    store: &Store,
    recipe: &Recipe,
    local: Option<Checkpoint>,
    (folder, cache): (&OutputFolder, &Path),
) -> Result<Option<Checkpoint>, StoreError> {
    let Some(shared) = earlier_run(store, recipe, local.as_ref(), folder)? else {
        return Ok(local);
    };
    let after = local.as_ref().map(|local| local.manifest.meta.step);
    let newest = shared.fetch_newest(cache, after)?;
    for skipped in &newest.skipped {
        print::error(format_args!("warning: {skipped}"));
    }
    if let Some(found) = &newest.checkpoint {
        let step = found.manifest.meta.step;
        print::error(format_args!("going on from {}", shared.address(step)));
    }
    Ok(newest.checkpoint.or(local))
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
