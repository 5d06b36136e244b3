//! The job's checkpoints in the recipe's shared store, as a worker uses them.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use tracing::warn;
use weft_common::checkpoint::{Defect, Manifest, SharedCheckpoints, UploadError, folder_step};
use weft_common::id::JobId;
use weft_common::recipe::Recipe;
use weft_common::store::{Store, StoreError};

/// Where a worker's checkpoints go beside its own disk.
#[derive(Debug, Clone)]
pub struct SharedStore {
    checkpoints: SharedCheckpoints,
    cache: PathBuf,
    limit: Option<NonZeroU32>,
}

impl SharedStore {
    /// Opens the store that the recipe names; `None` where it names none. Fetched checkpoints go to `cache`.
    ///
    /// # Errors
    /// If its folder cannot be created, or the settings in the environment contradict each other.
    pub fn open(job: &JobId, recipe: &Recipe, cache: &Path) -> Result<Option<Self>, StoreError> {
        let Some(url) = recipe.training.store_url() else {
            return Ok(None);
        };
        Ok(Some(Self {
            checkpoints: SharedCheckpoints::new(Store::open(&url)?, job.clone()),
            cache: cache.to_owned(),
            limit: recipe.training.save_total_limit.and_then(NonZeroU32::new),
        }))
    }

    /// Copies a checkpoint that was just written into the store, and removes old ones there. **Cost**: blocks for as long
    /// as the store takes.
    ///
    /// # Errors
    /// If the store does not take it. Old ones that cannot be removed are only warned of.
    pub fn keep(&self, folder: &Path, manifest: &Manifest) -> Result<(), UploadError> {
        self.checkpoints.upload_written(folder, manifest)?;
        if let Some(limit) = self.limit
            && let Err(error) = self.checkpoints.retain(limit, manifest.meta.step)
        {
            warn!(%error, "old checkpoints stay in the store");
        }
        Ok(())
    }

    /// Fetches the checkpoint that another machine wrote to `folder`; gives the folder where it lies here.
    ///
    /// # Errors
    /// What is wrong with it, or with the store.
    pub fn fetch(&self, folder: &Path) -> Result<PathBuf, Defect> {
        let step = folder_step(folder).ok_or(Defect::Unfinished)?;
        Ok(self.checkpoints.fetch(step, &self.cache)?.folder)
    }
}
