//! Checkpoints in a shared store: `<job>/checkpoints/<step>/`, with the same files as the folder, the manifest last.

mod fetch;
mod upload;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

pub use upload::UploadError;

use super::manifest::{MANIFEST_FILE, Manifest};
use super::retention::{Candidate, removable};
use super::step_of;
use crate::id::{Digest, JobId, Step};
use crate::store::{Store, StoreError};

/// The checkpoints of one job in a store.
#[derive(Debug, Clone)]
pub struct SharedCheckpoints {
    store: Store,
    job: JobId,
}

/// What lies under a step: name and size of each object.
type Files = BTreeMap<String, u64>;

impl SharedCheckpoints {
    /// Those of `job` in `store`.
    #[must_use]
    pub fn new(store: Store, job: JobId) -> Self {
        Self { store, job }
    }

    /// The newest job in `store` that a recipe with this digest can go on with; `None` where there is none.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn of_recipe(store: &Store, recipe: &Digest) -> Result<Option<Self>, StoreError> {
        let names = store.folders("")?;
        // Ids are ordered by time.
        let jobs = names.iter().rev().filter_map(|name| name.parse().ok());
        for job in jobs {
            let shared = Self::new(store.clone(), job);
            if shared.is_of_recipe(recipe)? {
                return Ok(Some(shared));
            }
        }
        Ok(None)
    }

    /// Whose they are.
    #[must_use]
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// The address of the checkpoint at `step`, for people.
    #[must_use]
    pub fn address(&self, step: Step) -> String {
        self.store.address(&self.folder(step))
    }

    /// Removes old checkpoints, where `newest` is the newest complete one and `limit` stay; gives their steps. Each loses its manifest
    /// first, so that a half-removed one is never taken for a checkpoint.
    ///
    /// # Errors
    /// If the store does not answer; what is not removed yet stays.
    pub fn retain(&self, limit: NonZeroU32, newest: Step) -> Result<Vec<Step>, StoreError> {
        let steps = self.steps()?;
        let candidate = |(step, files): (&Step, &Files)| Candidate {
            step: *step,
            finished: files.contains_key(MANIFEST_FILE),
        };
        let candidates: Vec<Candidate> = steps.iter().map(candidate).collect();
        let removable = removable(&candidates, newest, limit);
        for step in &removable {
            self.remove(*step, &steps[step])?;
        }
        Ok(removable)
    }

    fn is_of_recipe(&self, recipe: &Digest) -> Result<bool, StoreError> {
        for (step, files) in self.steps()?.iter().rev() {
            if !files.contains_key(MANIFEST_FILE) {
                continue;
            }
            if let Some(manifest) = self.manifest(*step)? {
                return Ok(manifest.meta.inputs.recipe == *recipe);
            }
        }
        Ok(false)
    }

    /// The manifest at `step`, where there is one that can be read.
    fn manifest(&self, step: Step) -> Result<Option<Manifest>, StoreError> {
        let bytes = self.store.get(&self.file(step, MANIFEST_FILE))?;
        Ok(bytes.and_then(|bytes| Manifest::parse(&bytes).ok()))
    }

    fn remove(&self, step: Step, files: &Files) -> Result<(), StoreError> {
        self.store.delete(&self.file(step, MANIFEST_FILE))?;
        for name in files.keys() {
            self.store.delete(&self.file(step, name))?;
        }
        Ok(())
    }

    /// What lies under each step, ascending.
    fn steps(&self) -> Result<BTreeMap<Step, Files>, StoreError> {
        let mut steps: BTreeMap<Step, Files> = BTreeMap::new();
        for object in self.store.list(&format!("{}/checkpoints", self.job))? {
            if let Some((folder, name)) = object.name.split_once('/')
                && let Some(step) = step_of(folder)
            {
                let files = steps.entry(step).or_default();
                files.insert(name.to_owned(), object.size);
            }
        }
        Ok(steps)
    }

    fn folder(&self, step: Step) -> String {
        format!("{}/checkpoints/{:010}", self.job, step.0)
    }

    fn file(&self, step: Step, name: &str) -> String {
        format!("{}/{name}", self.folder(step))
    }
}

#[cfg(test)]
mod tests;
