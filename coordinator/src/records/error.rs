//! Why records could not be read or written, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use weft_common::storage::StorageError;

/// Records that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// Two coordinators never share a state folder.
    #[error("{} is in use by another coordinator; stop that one, or choose another folder with --state", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A newer version of weft wrote it.
    #[error(
        "{} has format {found} and this version of weft knows formats up to {known}; start the newer version that wrote \
         it, or choose another folder with --state", path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database of another program.
    #[error("{} is another program's database; choose another folder with --state", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A job's file does not say what it should.
    #[error("{} cannot be read: {reason}; restore it, or remove it to forget the job", path.display())]
    JobFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database refuses.
    #[error("cannot {doing} {}: {reason}", path.display())]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What it said, and what to do.
        reason: String,
    },
    /// The disk takes too long.
    #[error("the coordinator's disk does not take the job in time; check it, and submit again")]
    Late,
}

impl RecordsError {
    /// What the database said about `doing` with the file at `path`.
    pub(super) fn of(doing: &'static str, path: &Path, error: &rusqlite::Error) -> Self {
        use ErrorCode as Code;
        let remedy = match error.sqlite_error_code() {
            Some(Code::DiskFull) => "free some space there",
            Some(Code::ReadOnly | Code::PermissionDenied) => {
                "let the coordinator write there, or choose another folder with --state"
            }
            Some(Code::CannotOpen | Code::SystemIoFailure) => "check that disk",
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => {
                "start the coordinator again: it sets the file aside and makes it anew"
            }
            Some(_) | None => "see the coordinator's log",
        };
        Self::Database {
            doing,
            path: path.to_owned(),
            reason: format!("{error}; {remedy}"),
        }
    }

    /// For `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| StorageError::new(doing, path, error).into()
    }
}
