//! Why a file could not be read or written, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failed access to a file or folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {fault}", path.display())]
pub struct StorageError {
    /// What was tried: a verb such as `write`.
    pub doing: &'static str,
    /// With which file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub fault: StorageFault,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The kinds of failure that have a remedy of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// No space, or the user's quota is used up.
    DiskFull,
    /// The folder or file belongs to someone else.
    NoPermission,
    /// The file system is mounted read-only.
    ReadOnly,
    /// There is no such file or folder.
    Missing,
    /// A file stands where a folder is needed, or the reverse.
    WrongKind,
    /// Anything else: a failing disk, a lost network share.
    Device,
}

impl StorageError {
    /// Wraps what the system said about `doing` with `path`.
    #[must_use]
    pub fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            fault: StorageFault::of(&source),
            source,
        }
    }

    /// For `map_err`.
    pub(crate) fn wrap(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(doing, path, source)
    }
}

impl StorageFault {
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Self::DiskFull,
            Kind::PermissionDenied => Self::NoPermission,
            Kind::ReadOnlyFilesystem => Self::ReadOnly,
            Kind::NotFound => Self::Missing,
            Kind::NotADirectory | Kind::IsADirectory => Self::WrongKind,
            _ => Self::Device,
        }
    }
}

impl fmt::Display for StorageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full or the quota used up; free some space there, what was complete before is intact",
            Self::NoPermission => "permission denied; choose a folder that you may write to, or change its owner",
            Self::ReadOnly => "the file system is read-only; choose another folder or mount it writable",
            Self::Missing => "no such file or folder; check the path",
            Self::WrongKind => "a file stands where a folder is needed, or the reverse; choose another path",
            Self::Device => "the device failed; see the cause, and check the disk or the network share",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_told_from_others_and_named() {
        let path = Path::new("/dev/full");
        let mut full = fs::OpenOptions::new().write(true).open(path).unwrap();
        let refused = full.write_all(b"weft").unwrap_err();
        let error = StorageError::new("write", path, refused);
        assert_eq!(error.fault, StorageFault::DiskFull);
        let text = error.to_string();
        assert!(
            text.starts_with("cannot write /dev/full: the disk is full")
                && text.contains("free some space"),
            "{text}"
        );
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StorageError::new("write", &file, fs::write(file.join("x"), "").unwrap_err());
        assert_eq!(error.fault, StorageFault::WrongKind);
    }
}
