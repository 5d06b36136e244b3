//! Why a ledger cannot be used.

use std::path::PathBuf;

use super::format::FormatError;
use crate::id::{JobId, Step, Term};
use crate::storage::StorageError;

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
    /// A segment that another goes on from is not there.
    #[error("ledger {} is missing, though {} goes on from it; restore it from a copy, or start anew in another folder", segment.display(), named_by.display())]
    Missing {
        /// The one that is not there.
        segment: PathBuf,
        /// The one that names it.
        named_by: PathBuf,
    },
    /// A coordinator of the same or a newer term has taken the ledger over.
    #[error("ledger {} was taken over in term {found}, so term {term} may not write to it; another coordinator runs this job", folder.display())]
    Fenced {
        /// The ledger's folder.
        folder: PathBuf,
        /// The newest term that has a claim on it.
        found: Term,
        /// The term that wants to write.
        term: Term,
    },
    /// A step that does not follow from what is committed.
    #[error("ledger {} expects step {} next, not step {}; resume from a checkpoint at or before it", folder.display(), expected.next(), found.next())]
    Order {
        /// The ledger's folder.
        folder: PathBuf,
        /// The step that must follow.
        expected: Step,
        /// The step that was given.
        found: Step,
    },
}
