//! Reads a ledger's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{Chain, FormatError, Reader};
use super::record::CommitRecord;
use crate::id::{JobId, Step, Term};
use crate::storage::StorageError;

/// A ledger that holds to its rules.
#[derive(Debug)]
pub struct Ledger {
    /// Whose it is; `None` where nothing was ever written.
    pub job: Option<JobId>,
    /// The committed steps that count, without gap.
    pub records: Vec<CommitRecord>,
    /// Lines that a crash cut short; what they would have said was never committed.
    pub torn: Vec<TornLine>,
    /// The newest segment's place, where there is one.
    pub(super) last_segment: Option<(Term, u32)>,
    pub(super) chain: Chain,
    pub(super) next_step: Option<Step>,
}

impl Ledger {
    /// The newest term that has written; the next coordinator takes a later one.
    #[must_use]
    pub fn last_term(&self) -> Option<Term> {
        self.last_segment.map(|(term, _)| term)
    }

    /// The step that must be committed next; `None` where nothing was ever written.
    #[must_use]
    pub const fn next_step(&self) -> Option<Step> {
        self.next_step
    }
}

/// The last line of a segment, cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornLine {
    /// The segment.
    pub segment: PathBuf,
    /// Bytes of it that are there.
    pub bytes: usize,
}

impl std::fmt::Display for TornLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bytes, segment) = (self.bytes, self.segment.display());
        write!(
            f,
            "the last line of {segment} was cut short after {bytes} bytes; it was never committed and is left out"
        )
    }
}

/// Why a ledger cannot be read or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A segment cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A line breaks the rules.
    #[error("ledger {}, line {line}: {source}; the ledger proves nothing from here on: restore it from a copy, or start anew in another folder", segment.display())]
    Line {
        /// The segment.
        segment: PathBuf,
        /// From 1.
        line: usize,
        /// Which rule.
        source: FormatError,
    },
    /// The ledger is that of another job.
    #[error("ledger {} is of job {found}, not of {expected}; choose another folder", folder.display())]
    Job {
        /// The ledger's folder.
        folder: PathBuf,
        /// The job it has.
        found: JobId,
        /// The job that wants to write.
        expected: JobId,
    },
    /// A coordinator of the same or a newer term has written already.
    #[error("ledger {} has been written to in term {found}, so term {term} may not; another coordinator runs this job", folder.display())]
    Fenced {
        /// The ledger's folder.
        folder: PathBuf,
        /// The newest term in it.
        found: Term,
        /// The term that wants to write.
        term: Term,
    },
    /// A step that does not follow from what is committed.
    #[error("ledger {} expects step {expected} next, not step {found}; resume from a checkpoint at or before it", folder.display())]
    Order {
        /// The ledger's folder.
        folder: PathBuf,
        /// The step that must follow.
        expected: Step,
        /// The step that was given.
        found: Step,
    },
}

/// Reads and checks a whole ledger; a folder that is not there is an empty one.
///
/// # Errors
/// If a segment cannot be read, or a line was changed, removed, added or moved, or a step is missing or comes twice.
pub fn read(folder: &Path) -> Result<Ledger, LedgerError> {
    let mut reader = Reader::new();
    let mut torn = Vec::new();
    let mut last_segment = None;
    for (term, sequence) in segments(folder)? {
        let path = segment_path(folder, term, sequence);
        let bytes = fs::read(&path).map_err(|error| StorageError::new("read", &path, error))?;
        torn.extend(read_segment(&mut reader, &path, &bytes)?);
        last_segment = Some((term, sequence));
    }
    Ok(Ledger {
        job: reader.job.clone(),
        torn,
        last_segment,
        chain: reader.chain,
        next_step: reader.next_step(),
        records: reader.records,
    })
}

fn read_segment(
    reader: &mut Reader,
    path: &Path,
    bytes: &[u8],
) -> Result<Option<TornLine>, LedgerError> {
    let complete = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    for (line, number) in bytes[..complete]
        .split_inclusive(|byte| *byte == b'\n')
        .zip(1..)
    {
        let text = std::str::from_utf8(&line[..line.len() - 1]);
        let taken = text.map_err(|error| FormatError::Syntax(error.to_string()));
        let taken = taken.and_then(|text| reader.line(text));
        taken.map_err(|source| LedgerError::Line {
            segment: path.to_owned(),
            line: number,
            source,
        })?;
    }
    let torn = TornLine {
        segment: path.to_owned(),
        bytes: bytes.len() - complete,
    };
    Ok(Some(torn).filter(|torn| torn.bytes > 0))
}

pub(super) fn segment_path(folder: &Path, term: Term, sequence: u32) -> PathBuf {
    folder.join(format!("{:010}-{sequence:06}.jsonl", term.0))
}

/// The segments under `folder` in the order they were written.
fn segments(folder: &Path) -> Result<Vec<(Term, u32)>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::new("read", folder, error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| StorageError::new("read", folder, error))?;
        segments.extend(entry.file_name().to_str().and_then(segment_of));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn segment_of(name: &str) -> Option<(Term, u32)> {
    let (term, sequence) = name.strip_suffix(".jsonl")?.split_once('-')?;
    Some((Term(term.parse().ok()?), sequence.parse().ok()?))
}
