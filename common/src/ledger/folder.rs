//! The files of a ledger's folder: segments, and the fences that later terms put up.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::id::Term;
use crate::storage::{StorageError, sync_folder};

/// Which segment; in the order in which they are begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentId {
    /// Whose.
    pub(super) term: Term,
    /// Position among those of its term, from 0.
    pub(super) sequence: u32,
}

impl SegmentId {
    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.to_string())
    }

    fn parse(name: &str) -> Option<Self> {
        let (term, sequence) = name.strip_suffix(".jsonl")?.split_once('-')?;
        let id = Self {
            term: Term(term.parse().ok()?),
            sequence: sequence.parse().ok()?,
        };
        (id.to_string() == name).then_some(id)
    }

    /// The first line, without its line feed; `None` where it was cut short.
    pub(super) fn first_line(self, folder: &Path) -> Result<Option<String>, StorageError> {
        let path = self.path(folder);
        let mut line = Vec::new();
        let read = fs::File::open(&path)
            .and_then(|file| BufReader::new(file).read_until(b'\n', &mut line));
        read.map_err(|error| StorageError::new("read", &path, error))?;
        let complete = line.pop() == Some(b'\n');
        // What is not text is no line of a ledger, which its reader will say.
        Ok(complete.then(|| String::from_utf8_lossy(&line).into_owned()))
    }
}

/// The file's name.
impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{:06}.jsonl", self.term.0, self.sequence)
    }
}

/// The segments under `folder` in the order in which they were begun; none where there is no such folder.
pub(super) fn segments(folder: &Path) -> Result<Vec<SegmentId>, StorageError> {
    let mut segments = names(folder, SegmentId::parse)?;
    segments.sort_unstable();
    Ok(segments)
}

/// The newest term that has put up a fence.
///
/// **Cost**: lists the folder, some ten microseconds on a local disk.
pub(super) fn newest_fence(folder: &Path) -> Result<Option<Term>, StorageError> {
    Ok(names(folder, fenced_term)?.into_iter().max())
}

/// Puts up the fence of `term`, durably; false where there is one.
pub(super) fn raise_fence(folder: &Path, term: Term) -> Result<bool, StorageError> {
    let path = folder.join(format!("{:010}.fence", term.0));
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(_) => sync_folder(folder).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(StorageError::new("create", &path, error)),
    }
}

/// The names of the fences under `folder`.
pub(super) fn fences(folder: &Path) -> Result<Vec<String>, StorageError> {
    let own = |name: &str| is_fence(name).then(|| name.to_owned());
    names(folder, own)
}

/// Whether a file of this name is a fence.
pub(super) fn is_fence(name: &str) -> bool {
    fenced_term(name).is_some()
}

fn fenced_term(name: &str) -> Option<Term> {
    name.strip_suffix(".fence")?.parse().ok().map(Term)
}

fn names<T>(folder: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, StorageError> {
    let failed = |error| StorageError::new("read", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().and_then(&parse));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_they_are_written_are_segments() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "0000000002-000000.jsonl",
            "0000000001-000010.jsonl",
            "0000000001-000002.jsonl",
            "1-0.jsonl",
            "0000000001.fence",
            "notes.jsonl",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = segments(folder.path()).unwrap();
        let names: Vec<String> = found.iter().map(SegmentId::to_string).collect();
        assert_eq!(
            names,
            [
                "0000000001-000002.jsonl",
                "0000000001-000010.jsonl",
                "0000000002-000000.jsonl"
            ]
        );
    }

    #[test]
    fn a_fence_is_put_up_once_and_the_newest_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_fence(folder.path()).unwrap(), None);
        assert!(raise_fence(folder.path(), Term(10)).unwrap());
        assert!(raise_fence(folder.path(), Term(9)).unwrap());
        assert!(!raise_fence(folder.path(), Term(10)).unwrap());
        assert_eq!(newest_fence(folder.path()).unwrap(), Some(Term(10)));
    }
}
