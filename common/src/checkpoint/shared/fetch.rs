//! Checkpoints from the store to a folder of this machine.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::{Files, SharedCheckpoints};
use crate::checkpoint::{
    Checkpoint, Defect, MANIFEST_FILE, Manifest, Newest, Skipped, open, retain,
};
use crate::id::Step;
use crate::storage::{StorageError, create_folder, write_atomic};
use crate::store::StoreError;

/// Fetched checkpoints of one job that stay in the cache: one in use, and the one before in case it is refused.
const CACHED: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");

impl SharedCheckpoints {
    /// Fetches the newest complete checkpoint of a later step than `after`, and none later than `until`, into `cache`,
    /// verified. Others, and those that lack their manifest or are damaged, are passed over.
    ///
    /// # Errors
    /// If the store does not answer, or the disk does not take what it gives.
    pub fn fetch_newest(
        &self,
        cache: &Path,
        after: Option<Step>,
        until: Option<Step>,
    ) -> Result<Newest, StoreError> {
        let mut skipped = Vec::new();
        for (step, files) in self.steps()?.into_iter().rev() {
            if after.is_some_and(|after| step <= after) {
                break;
            }
            let ahead = until.filter(|until| step > *until && files.contains_key(MANIFEST_FILE));
            let fetched = match ahead {
                Some(ledger) => Err(Defect::Unproven { ledger }),
                None => self.fetch_listed(step, &files, cache),
            };
            let defect = match fetched {
                Ok(checkpoint) => {
                    let checkpoint = Some(checkpoint);
                    return Ok(Newest {
                        checkpoint,
                        skipped,
                    });
                }
                Err(Defect::Store(error)) if !error.is_of_the_object() => return Err(error),
                Err(defect) => defect,
            };
            let folder = PathBuf::from(self.address(step));
            skipped.push(Skipped { folder, defect });
        }
        Ok(Newest {
            checkpoint: None,
            skipped,
        })
    }

    /// Fetches the checkpoint of one step into `cache`, verified. Where it is there already, nothing is exchanged.
    ///
    /// # Errors
    /// What is wrong with it, or with the store.
    pub fn fetch(&self, step: Step, cache: &Path) -> Result<Checkpoint, Defect> {
        let target = crate::checkpoint::folder(&self.cache_folder(cache), step);
        if let Ok(checkpoint) = open(&target) {
            return Ok(checkpoint);
        }
        let files = self.steps()?.remove(&step).unwrap_or_default();
        self.fetch_listed(step, &files, cache)
    }

    fn fetch_listed(&self, step: Step, files: &Files, cache: &Path) -> Result<Checkpoint, Defect> {
        if !files.contains_key(MANIFEST_FILE) {
            return Err(Defect::Unfinished);
        }
        let bytes = self.store.get(&self.file(step, MANIFEST_FILE))?;
        let bytes = bytes.ok_or(Defect::Unfinished)?;
        let manifest = Manifest::parse(&bytes)?;
        check(step, &manifest, files)?;

        let root = self.cache_folder(cache);
        let target = crate::checkpoint::folder(&root, step);
        // The same bytes may have been fetched before; what else lies there under this name is of another run.
        if let Ok(found) = open(&target)
            && found.manifest == manifest
        {
            return Ok(found);
        }
        create_folder(&root)?;
        let incoming = tempfile::Builder::new()
            .prefix(".incoming.")
            .tempdir_in(&root);
        let incoming = incoming.map_err(|error| StorageError::new("create", &root, error))?;
        for file in &manifest.files {
            let name = self.file(step, &file.name);
            self.store
                .download(&name, file, &incoming.path().join(&file.name))?;
        }
        write_atomic(&incoming.path().join(MANIFEST_FILE), &bytes)?;
        put_in_place(incoming, &target)?;
        let fetched = open(&target)?;
        if let Err(error) = retain(&root, CACHED) {
            tracing::warn!(%error, "old checkpoints stay in the cache");
        }
        Ok(fetched)
    }

    fn cache_folder(&self, cache: &Path) -> PathBuf {
        cache.join("checkpoints").join(self.job.as_str())
    }
}

/// What can be seen without reading the files.
fn check(step: Step, manifest: &Manifest, files: &Files) -> Result<(), Defect> {
    if manifest.meta.step != step {
        return Err(Defect::Step {
            folder: step,
            manifest: manifest.meta.step,
        });
    }
    for file in &manifest.files {
        if !file.has_plain_name() {
            return Err(Defect::FileName(file.name.clone()));
        }
        let found_size = files.get(&file.name).copied().unwrap_or(0);
        if found_size != file.size {
            return Err(Defect::Size {
                name: file.name.clone(),
                found_size,
                expected_size: file.size,
            });
        }
    }
    Ok(())
}

/// Moves a complete folder to its name. Another worker of this machine may have been faster; a complete one stays.
fn put_in_place(incoming: tempfile::TempDir, target: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::new("create", target, error);
    if fs::rename(incoming.path(), target).is_err() {
        if open(target).is_ok() {
            return Ok(());
        }
        match fs::remove_dir_all(target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::rename(incoming.path(), target).map_err(failed)?;
    }
    // It has another name now.
    let _ = incoming.keep();
    Ok(())
}
