//! Finds the newest checkpoint that is complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use super::{folder_step, step_of};
use crate::id::Step;
use crate::storage::{FileEntry, StorageError};
use crate::store::StoreError;

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// Its manifest, which its files agree with.
    pub manifest: Manifest,
}

/// What was found under a folder of checkpoints.
#[derive(Debug)]
pub struct Newest {
    /// The newest complete one.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are not complete, newest first: worth a warning each.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that was passed over.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {} is passed over: {defect}", folder.display())]
pub struct Skipped {
    /// Its folder, or its address in a store.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub defect: Defect,
}

/// Why a checkpoint does not count.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// It was never finished.
    #[error("it has no {MANIFEST_FILE}, so writing it was interrupted")]
    Unfinished,
    /// The ledger in the store does not lead to it.
    #[error("the ledger beside it ends before step {ledger}, when its machine was lost")]
    Unproven {
        /// The step that follows the ledger.
        ledger: Step,
    },
    /// Its manifest cannot be read.
    #[error("its {0}")]
    Manifest(#[from] ManifestError),
    /// Its manifest is that of another step.
    #[error("its folder is named for step {folder}, but its manifest for step {manifest}")]
    Step {
        /// Step of the name.
        folder: Step,
        /// Step of the manifest.
        manifest: Step,
    },
    /// The manifest names a file outside the folder.
    #[error("its manifest names `{0}`, which is no plain file name")]
    FileName(String),
    /// A file is not as the manifest says.
    #[error("{name} has {found_size} bytes, but its manifest says {expected_size}")]
    Size {
        /// The file.
        name: String,
        /// What it has.
        found_size: u64,
        /// What it should have.
        expected_size: u64,
    },
    /// A file has the right size and other content.
    #[error("{0} does not have the SHA-256 of its manifest")]
    Content(String),
    /// A file is missing or unreadable.
    #[error(transparent)]
    Unreadable(#[from] StorageError),
    /// The store does not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds the newest complete checkpoint under `root`; a `root` that is not there holds none.
///
/// **Cost**: reads the files of the checkpoint it gives, and of those it passes over, once.
///
/// # Errors
/// If `root` itself cannot be read.
pub fn newest_complete(root: &Path) -> Result<Newest, StorageError> {
    let mut skipped = Vec::new();
    for step in steps(root)?.into_iter().rev() {
        let folder = super::folder(root, step);
        match open(&folder) {
            Ok(checkpoint) => {
                return Ok(Newest {
                    checkpoint: Some(checkpoint),
                    skipped,
                });
            }
            Err(defect) => skipped.push(Skipped { folder, defect }),
        }
    }
    Ok(Newest {
        checkpoint: None,
        skipped,
    })
}

/// The manifests of all checkpoints under `root` that were finished, oldest first, without a look at their other files; a
/// `root` that is not there holds none.
///
/// # Errors
/// If `root` itself cannot be read.
pub fn manifests(root: &Path) -> Result<Vec<(PathBuf, Manifest)>, StorageError> {
    let folders = steps(root)?
        .into_iter()
        .map(|step| super::folder(root, step));
    let read = folders.filter_map(|folder| {
        let manifest = read_manifest(&folder).ok()?;
        Some((folder, manifest))
    });
    Ok(read.collect())
}

/// Opens one checkpoint and verifies that it is complete.
///
/// # Errors
/// What is wrong with it.
pub fn open(folder: &Path) -> Result<Checkpoint, Defect> {
    let manifest = read_manifest(folder)?;
    for expected in &manifest.files {
        check_size(folder, expected)?;
    }
    for expected in &manifest.files {
        if FileEntry::of(folder, &expected.name)?.sha256 != expected.sha256 {
            return Err(Defect::Content(expected.name.clone()));
        }
    }
    let folder = folder.to_owned();
    Ok(Checkpoint { folder, manifest })
}

fn read_manifest(folder: &Path) -> Result<Manifest, Defect> {
    let path = folder.join(MANIFEST_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Defect::Unfinished),
        Err(error) => return Err(StorageError::new("read", &path, error).into()),
    };
    let manifest = Manifest::parse(&bytes)?;
    match folder_step(folder) {
        Some(named) if named != manifest.meta.step => Err(Defect::Step {
            folder: named,
            manifest: manifest.meta.step,
        }),
        Some(_) | None => Ok(manifest),
    }
}

fn check_size(folder: &Path, expected: &FileEntry) -> Result<(), Defect> {
    if !expected.has_plain_name() {
        return Err(Defect::FileName(expected.name.clone()));
    }
    let path = folder.join(&expected.name);
    let found_size = fs::metadata(&path)
        .map_err(StorageError::wrap("read", &path))?
        .len();
    if found_size == expected.size {
        return Ok(());
    }
    Err(Defect::Size {
        name: expected.name.clone(),
        found_size,
        expected_size: expected.size,
    })
}

/// The steps that there are folders for under `root`, ascending. Anything else that lies there is left alone.
pub(super) fn steps(root: &Path) -> Result<Vec<Step>, StorageError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::new("read", root, error)),
    };
    let mut steps = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::wrap("read", root))?;
        steps.extend(entry.file_name().to_str().and_then(step_of));
    }
    steps.sort_unstable();
    Ok(steps)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::manifest::tests::meta;
    use super::super::{CheckpointWriter, folder};
    use super::*;
    use crate::id::Digest;

    /// Writes a complete checkpoint of two files.
    pub(in crate::checkpoint) fn save(root: &Path, step: u64) -> PathBuf {
        let at = folder(root, Step(step));
        let mut writer = CheckpointWriter::create(&at, meta(step)).unwrap();
        writer
            .add("state.json", |file| write!(file, "{{\"step\": {step}}}"))
            .unwrap();
        writer
            .add("adapter_model.safetensors", |file| {
                file.write_all(&[7; 100])
            })
            .unwrap();
        writer.finish(Digest::of(b"state")).unwrap();
        at
    }

    /// The newest complete step, and the defects of those passed over.
    fn found(root: &Path) -> (Option<u64>, Vec<String>) {
        let newest = newest_complete(root).unwrap();
        let step = newest
            .checkpoint
            .map(|checkpoint| checkpoint.manifest.meta.step.0);
        (
            step,
            newest.skipped.iter().map(Skipped::to_string).collect(),
        )
    }

    #[test]
    fn the_newest_is_found_with_its_files_sorted() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(found(&root.path().join("absent")), (None, vec![]));
        save(root.path(), 50);
        save(root.path(), 100);
        fs::create_dir(root.path().join("notes")).unwrap();
        assert_eq!(found(root.path()), (Some(100), vec![]));
        let manifest = open(&folder(root.path(), Step(50))).unwrap().manifest;
        let names: Vec<&str> = manifest
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        assert_eq!(names, ["adapter_model.safetensors", "state.json"]);
    }

    #[test]
    fn one_that_was_never_finished_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), 50);
        fs::remove_file(save(root.path(), 100).join(MANIFEST_FILE)).unwrap();
        let (step, skipped) = found(root.path());
        assert_eq!(step, Some(50));
        assert!(
            skipped[0].contains("0000000100") && skipped[0].contains("interrupted"),
            "{skipped:?}"
        );
    }

    /// What a damage is reported as, and how it is done to a checkpoint.
    type Damage = (&'static str, fn(&Path));

    #[test]
    fn damage_of_every_kind_is_told_and_passed_over() {
        let damages: [Damage; 5] = [
            ("adapter_model.safetensors does not have", |at| {
                let mut bytes = vec![7; 100];
                bytes[50] ^= 1;
                fs::write(at.join("adapter_model.safetensors"), bytes).unwrap();
            }),
            ("99 bytes, but its manifest says 100", |at| {
                fs::write(at.join("adapter_model.safetensors"), [7; 99]).unwrap();
            }),
            ("state.json: no such file", |at| {
                fs::remove_file(at.join("state.json")).unwrap()
            }),
            ("MANIFEST.json is damaged", |at| {
                fs::write(at.join(MANIFEST_FILE), "{").unwrap()
            }),
            ("named for step 100, but its manifest for step 50", |at| {
                let other = folder(at.parent().unwrap(), Step(50)).join(MANIFEST_FILE);
                fs::copy(other, at.join(MANIFEST_FILE)).unwrap();
            }),
        ];
        for (words, damage) in damages {
            let root = tempfile::tempdir().unwrap();
            save(root.path(), 50);
            damage(&save(root.path(), 100));
            let (step, skipped) = found(root.path());
            assert_eq!(step, Some(50), "{words}");
            assert!(
                skipped.len() == 1 && skipped[0].contains(words),
                "{words}: {skipped:?}"
            );
        }
    }

    #[test]
    fn a_manifest_cannot_reach_out_of_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let at = save(root.path(), 50);
        let text = fs::read_to_string(at.join(MANIFEST_FILE)).unwrap();
        fs::write(
            at.join(MANIFEST_FILE),
            text.replace("state.json", "../secret"),
        )
        .unwrap();
        assert!(matches!(open(&at), Err(Defect::FileName(name)) if name == "../secret"));
    }
}
