//! A complete folder on its way into the store.

use std::path::Path;

use super::SharedCheckpoints;
use crate::checkpoint::{Checkpoint, MANIFEST_FILE, Manifest};
use crate::id::Step;
use crate::storage::StorageError;
use crate::store::{Created, StoreError};

/// Why a checkpoint did not get into the store.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This machine's disk does not take what is compared.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Somebody else finished another checkpoint of the same step at the same time.
    #[error(
        "{at} was written by another worker meanwhile and holds another state; another coordinator runs this job"
    )]
    Contended {
        /// Its address.
        at: String,
    },
}

impl SharedCheckpoints {
    /// Copies a complete folder into the store, its manifest last: until then others see no checkpoint. One that is there
    /// already with the same files stays as it is.
    ///
    /// # Errors
    /// If the store does not take it; what is there then has no manifest and does not count.
    pub fn upload(&self, checkpoint: &Checkpoint) -> Result<(), UploadError> {
        let Checkpoint { folder, manifest } = checkpoint;
        let step = manifest.meta.step;
        if self.is_there(manifest)? {
            return Ok(());
        }
        if let Some(ruin) = self.steps()?.get(&step) {
            self.remove(step, ruin)?;
        }
        for file in &manifest.files {
            let name = self.file(step, &file.name);
            self.store.upload(&name, &folder.join(&file.name))?;
        }
        self.finish(step, manifest)
    }

    /// Whether the store has all files of `manifest` under its step, and a manifest that lists the same. **Cost**: reads
    /// the files, where there is such a manifest: a run that goes on from an earlier checkpoint may come to one that was
    /// passed over as damaged.
    fn is_there(&self, manifest: &Manifest) -> Result<bool, UploadError> {
        let step = manifest.meta.step;
        let same = |found: &Manifest| {
            found.files == manifest.files && found.meta.inputs == manifest.meta.inputs
        };
        if !self.manifest(step)?.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let scratch = tempfile::tempdir()
            .map_err(|error| StorageError::new("create", &std::env::temp_dir(), error))?;
        for file in &manifest.files {
            let to = scratch.path().join("file");
            match self.store.download(&self.file(step, &file.name), file, &to) {
                Ok(()) => {}
                Err(error) if error.is_of_the_object() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn finish(&self, step: Step, manifest: &Manifest) -> Result<(), UploadError> {
        let name = self.file(step, MANIFEST_FILE);
        match self.store.create(&name, manifest.to_json().as_bytes())? {
            Created::Ours => Ok(()),
            // The files do not depend on who writes them, so that two writers of the same state write the same.
            Created::Theirs if self.is_there(manifest)? => Ok(()),
            Created::Theirs => Err(UploadError::Contended {
                at: self.address(step),
            }),
        }
    }

    /// As [`upload`](Self::upload), for a folder and the manifest that was just written into it.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub fn upload_written(&self, folder: &Path, manifest: &Manifest) -> Result<(), UploadError> {
        self.upload(&Checkpoint {
            folder: folder.to_owned(),
            manifest: manifest.clone(),
        })
    }
}
