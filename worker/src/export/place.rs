//! Where an export comes to lie: a folder, complete or absent.
//!
//! Files are written into `.NAME.partial` beside the target, which is moved into place when all are on the disk. A lock
//! in it says that its export runs: what a killed one left behind is taken over by the next.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use weft_common::storage::{StorageError, create_folder, sync_folder};

use super::ExportError;

/// Says of a folder that it is an export, and what is in it.
pub(super) const EXPORT_FILE: &str = "export.json";
const LOCK: &str = ".lock";

/// A folder that is being filled; what is not finished is removed when it is dropped.
#[derive(Debug)]
pub struct Place {
    target: PathBuf,
    working: PathBuf,
    lock: Option<File>,
}

impl Place {
    /// Makes a folder to fill. One that is at `target` already stays until [`Self::finish`], and is replaced only with
    /// `overwrite`, and only if it is an export.
    ///
    /// # Errors
    /// Something is in the way, another export runs, or the folder cannot be made.
    pub fn prepare(target: &Path, overwrite: bool) -> Result<Self, ExportError> {
        check_target(target, overwrite)?;
        let absolute = std::path::absolute(target)
            .map_err(|error| StorageError::new("find", target, error))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            let remedy = "; choose a folder with a name with --output";
            return Err(ExportError::Exists {
                path: target.to_owned(),
                remedy,
            });
        };
        create_folder(parent)?;
        let working = parent.join(format!(".{}.partial", name.to_string_lossy()));
        let lock = lock(&working, target)?;
        let place = Self {
            target: absolute.clone(),
            working,
            lock: Some(lock),
        };
        place.clear()?;
        Ok(place)
    }

    /// The folder to write into.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.working
    }

    /// Whether the disk has room for `needed` bytes.
    ///
    /// # Errors
    /// It has not, or cannot be asked.
    pub fn check_space(&self, needed: u64) -> Result<(), ExportError> {
        let disk = statvfs(&self.working)
            .map_err(|error| StorageError::new("measure", &self.working, error.into()))?;
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed <= available {
            return Ok(());
        }
        Err(ExportError::NoSpace {
            path: self.target.clone(),
            needed,
            available,
        })
    }

    /// Moves the folder into its place.
    ///
    /// # Errors
    /// The system refuses; nothing is left then but what was there before.
    pub fn finish(mut self) -> Result<(), ExportError> {
        let moving = |error: io::Error| StorageError::new("write", &self.target, error);
        fs::remove_file(self.working.join(LOCK)).map_err(moving)?;
        sync_folder(&self.working)?;
        if self.target.exists() {
            // What was there is in the working folder then, and goes with it.
            exchange(&self.working, &self.target).map_err(moving)?;
        } else {
            fs::rename(&self.working, &self.target).map_err(moving)?;
            self.lock = None;
        }
        if let Some(parent) = self.target.parent() {
            sync_folder(parent)?;
        }
        Ok(())
    }

    /// Removes what an export left that was killed.
    fn clear(&self) -> Result<(), ExportError> {
        let failed = |error| StorageError::new("clear", &self.working, error);
        for entry in fs::read_dir(&self.working).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| name != LOCK) {
                let removed = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = fs::remove_dir_all(&self.working);
        }
    }
}

fn check_target(target: &Path, overwrite: bool) -> Result<(), ExportError> {
    let exists = |remedy| {
        let path = target.to_owned();
        Err(ExportError::Exists { path, remedy })
    };
    match fs::read_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            exists(" and is no folder; choose another place with --output")
        }
        Err(error) => Err(StorageError::new("read", target, error).into()),
        Ok(mut entries) => match (entries.next().is_some(), target.join(EXPORT_FILE).exists()) {
            (false, _) => Ok(()),
            (true, true) if overwrite => Ok(()),
            (true, true) => {
                exists("; replace it with --overwrite, or choose another folder with --output")
            }
            (true, false) => {
                exists(" and is not an export of weft; choose another folder with --output")
            }
        },
    }
}

fn lock(working: &Path, target: &Path) -> Result<File, ExportError> {
    create_folder(working)?;
    let failed = |error| StorageError::new("write", working, error);
    let lock = File::create(working.join(LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ExportError::Busy {
            path: target.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error).into()),
    }
}

/// Swaps two folders, in one step where the file system can.
fn exchange(fresh: &Path, old: &Path) -> io::Result<()> {
    match renameat_with(CWD, fresh, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(_) => {
            let aside = fresh.with_extension("old");
            fs::rename(old, &aside)?;
            fs::rename(fresh, old)?;
            fs::rename(aside, fresh)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(target: &Path, overwrite: bool, text: &str) -> Result<(), ExportError> {
        let place = Place::prepare(target, overwrite)?;
        fs::write(place.path().join(EXPORT_FILE), text).unwrap();
        place.finish()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_place_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::prepare(&folder.path().join("out"), false).unwrap();
        fs::write(place.path().join("half"), "written").unwrap();
        drop(place);
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn an_export_is_replaced_only_when_told_and_then_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        export(&target, false, "first").unwrap();
        let refused = export(&target, false, "second").unwrap_err();
        assert!(refused.to_string().contains("--overwrite"), "{refused}");
        export(&target, true, "second").unwrap();
        assert_eq!(
            fs::read_to_string(target.join(EXPORT_FILE)).unwrap(),
            "second"
        );
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_folder_that_is_no_export_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "keep").unwrap();
        let refused = export(folder.path(), true, "x").unwrap_err();
        assert!(refused.to_string().contains("not an export"), "{refused}");
        let file = folder.path().join("mine");
        assert!(export(&file, true, "x").is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), "keep");
    }

    #[test]
    fn what_a_killed_export_left_is_taken_over_and_a_running_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let left = folder.path().join(".out.partial");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "written").unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let running = Place::prepare(&target, false).unwrap();
        assert_eq!(names(&left), [LOCK]);
        assert!(matches!(
            Place::prepare(&target, false),
            Err(ExportError::Busy { .. })
        ));
        drop(running);
        export(&target, false, "x").unwrap();
    }

    #[test]
    fn a_disk_without_room_is_told_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::prepare(&folder.path().join("out"), false).unwrap();
        place.check_space(1).unwrap();
        let refused = place.check_space(u64::MAX).unwrap_err();
        assert!(matches!(refused, ExportError::NoSpace { .. }), "{refused}");
    }
}
