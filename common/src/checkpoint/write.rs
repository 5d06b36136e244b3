//! Writes a checkpoint folder.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::find::open;
use super::manifest::{CheckpointMeta, MANIFEST_FILE, Manifest};
use crate::failpoint;
use crate::id::Digest;
use crate::storage::{FolderWriter, StorageError, create_folder, move_folder, remove_folder};

/// Begins the names of folders that are being written.
const BESIDE: &str = ".writing-";

/// A checkpoint on its way, in a folder beside its place. Dropped before [`finish`](Self::finish), it leaves nothing.
///
/// Two processes may write the same checkpoint, when one of them is taken for gone and is not. Each has a folder of its
/// own, and the first to finish wins: a checkpoint that is there is never half replaced.
#[derive(Debug)]
pub struct CheckpointWriter {
    place: PathBuf,
    beside: FolderWriter,
    meta: CheckpointMeta,
}

impl CheckpointWriter {
    /// Starts the checkpoint that is to be at `place`, which [`folder`](super::folder) names. Folders that others began to
    /// write beside it are removed: nobody waits for them any more.
    ///
    /// # Errors
    /// If the folder beside it cannot be created.
    pub fn create(place: &Path, meta: CheckpointMeta) -> Result<Self, StorageError> {
        let root = place.parent().unwrap_or(Path::new("."));
        create_folder(root)?;
        if let Err(error) = remove_begun(root) {
            tracing::warn!(%error, "a checkpoint that was begun and not finished stays");
        }
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let own = uuid::Uuid::now_v7().simple();
        let beside = root.join(format!("{BESIDE}{name}-{own}"));
        Ok(Self {
            place: place.to_owned(),
            beside: FolderWriter::create(&beside, MANIFEST_FILE)?,
            meta,
        })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// If `write` fails or the disk does not take it.
    pub fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        self.beside.add(name, write)
    }

    /// Writes the manifest and moves the folder to its place, with which the checkpoint is complete. One of the same state
    /// that is there already stays. Gives the manifest of that which is there.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn finish(self, state_digest: Digest) -> Result<Manifest, StorageError> {
        failpoint::hit("manifest");
        let manifest = Manifest::new(self.meta, state_digest, self.beside.files().to_vec());
        let beside = self.beside.path().to_owned();
        self.beside.finish(manifest.to_json().as_bytes())?;
        let mut there = None;
        let moved = move_folder(&beside, &self.place, MANIFEST_FILE, || {
            let same = |found: &Manifest| found.state_digest == state_digest;
            there = open(&self.place)
                .ok()
                .map(|found| found.manifest)
                .filter(same);
            there.is_some()
        });
        if moved.is_err() {
            // Whoever writes the next one tries again.
            let _ = remove_folder(&beside, MANIFEST_FILE);
        }
        moved.map(|()| there.unwrap_or(manifest))
    }
}

fn remove_begun(root: &Path) -> Result<(), StorageError> {
    let entries = fs::read_dir(root).map_err(StorageError::wrap("read", root))?;
    for entry in entries {
        let entry = entry.map_err(StorageError::wrap("read", root))?;
        if entry.file_name().to_string_lossy().starts_with(BESIDE) {
            remove_folder(&entry.path(), MANIFEST_FILE)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::meta;
    use super::super::{folder, newest_complete};
    use super::*;
    use crate::id::Step;

    fn writer(root: &Path) -> CheckpointWriter {
        let mut writer = CheckpointWriter::create(&folder(root, Step(7)), meta(7)).unwrap();
        let add = writer.add("state.json", |file| file.write_all(b"state"));
        add.unwrap();
        writer
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_checkpoint_is_not_in_its_place_before_it_is_complete() {
        let root = tempfile::tempdir().unwrap();
        let writer = writer(root.path());
        assert!(!folder(root.path(), Step(7)).exists());
        writer.finish(Digest([1; 32])).unwrap();
        assert_eq!(names(root.path()), ["0000000007"]);
    }

    #[test]
    fn a_late_writer_leaves_the_checkpoint_of_the_same_state_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let first = writer(root.path()).finish(Digest([1; 32])).unwrap();
        let place = folder(root.path(), Step(7));
        let before = fs::metadata(&place).unwrap().modified().unwrap();
        let late = writer(root.path()).finish(Digest([1; 32])).unwrap();
        assert_eq!(late, first);
        assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), before);
        assert_eq!(names(root.path()), ["0000000007"]);
    }

    #[test]
    fn a_damaged_one_and_one_of_another_state_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        writer(root.path()).finish(Digest([1; 32])).unwrap();
        let replaced = writer(root.path()).finish(Digest([2; 32])).unwrap();
        assert_eq!(replaced.state_digest, Digest([2; 32]));
        fs::write(folder(root.path(), Step(7)).join("state.json"), "short").unwrap();
        writer(root.path()).finish(Digest([2; 32])).unwrap();
        let newest = newest_complete(root.path()).unwrap().checkpoint.unwrap();
        assert_eq!(newest.manifest, replaced);
    }

    #[test]
    fn what_a_killed_writer_began_goes_with_the_next_and_fails_a_writer_that_lives() {
        let root = tempfile::tempdir().unwrap();
        let forgotten = writer(root.path());
        let next = writer(root.path());
        assert!(forgotten.finish(Digest([1; 32])).is_err());
        next.finish(Digest([1; 32])).unwrap();
        assert_eq!(names(root.path()), ["0000000007"]);
    }
}
