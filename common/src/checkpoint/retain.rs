//! Removes old checkpoints.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::find::{newest_complete, steps};
use super::manifest::MANIFEST_FILE;
use super::retention::{Candidate, removable};
use crate::storage::{StorageError, remove_folder};

/// Keeps the newest complete checkpoint and those before it up to `limit` in all, and removes what is older.
/// Gives the folders that were removed, oldest first.
///
/// Newer ones that are not complete are left alone, because one may just be written. Where nothing is complete, nothing
/// is removed. A folder loses its manifest first, so that a half-removed one is never taken for a checkpoint.
///
/// # Errors
/// If a folder cannot be read or removed; those after it stay.
pub fn retain(root: &Path, limit: NonZeroU32) -> Result<Vec<PathBuf>, StorageError> {
    let Some(newest) = newest_complete(root)?.checkpoint else {
        return Ok(Vec::new());
    };
    let newest = newest.manifest.meta.step;
    let candidate = |step| Candidate {
        step,
        finished: super::folder(root, step).join(MANIFEST_FILE).exists(),
    };
    let candidates: Vec<Candidate> = steps(root)?.into_iter().map(candidate).collect();
    let mut removed = Vec::new();
    for step in removable(&candidates, newest, limit) {
        let folder = super::folder(root, step);
        remove_folder(&folder, MANIFEST_FILE)?;
        removed.push(folder);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::find::tests::save;
    use super::*;

    fn kept(root: &Path) -> Vec<u64> {
        steps(root).unwrap().iter().map(|step| step.0).collect()
    }

    fn retain_at_most(root: &Path, limit: u32) {
        retain(root, NonZeroU32::new(limit).unwrap()).unwrap();
    }

    #[test]
    fn the_newest_stay_up_to_the_limit() {
        let root = tempfile::tempdir().unwrap();
        for step in [10, 20, 30, 40] {
            save(root.path(), step);
        }
        retain_at_most(root.path(), 2);
        assert_eq!(kept(root.path()), [30, 40]);
        retain_at_most(root.path(), 5);
        assert_eq!(kept(root.path()), [30, 40]);
    }

    #[test]
    fn the_newest_complete_one_is_never_removed() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), 10);
        save(root.path(), 20);
        fs::write(save(root.path(), 30).join("state.json"), "damaged").unwrap();
        retain_at_most(root.path(), 1);
        assert_eq!(kept(root.path()), [20, 30]);
    }

    #[test]
    fn one_that_may_be_in_the_writing_is_left_alone_and_an_old_ruin_is_not() {
        let root = tempfile::tempdir().unwrap();
        for step in [10, 30] {
            fs::remove_file(save(root.path(), step).join(MANIFEST_FILE)).unwrap();
        }
        retain_at_most(root.path(), 3);
        assert_eq!(kept(root.path()), [10, 30]);
        save(root.path(), 20);
        retain_at_most(root.path(), 3);
        assert_eq!(kept(root.path()), [20, 30]);
    }
}
