//! What an audit finds.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::error::LedgerError;
use super::super::read::LedgerPlace;

/// A wrong dataset makes every slot differ; nobody reads more than the beginning of such a list.
const KEPT: usize = 20;

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file or folder that it was found in.
    pub path: PathBuf,
    /// The line, from 1, where it is one.
    pub line: Option<usize>,
    /// What it is, with steps counted from 1.
    pub what: String,
}

impl From<&LedgerError> for Finding {
    /// A ledger that cannot even be read.
    fn from(error: &LedgerError) -> Self {
        let (path, line, what): (&Path, _, _) = match error {
            LedgerError::Storage(source) => (&source.path, None, source.to_string()),
            LedgerError::Line {
                segment,
                line,
                source,
            } => (segment, Some(*line), source.to_string()),
            LedgerError::Missing { segment, .. } => (segment, None, error.to_string()),
            LedgerError::Job { folder, .. }
            | LedgerError::Fenced { folder, .. }
            | LedgerError::Order { folder, .. } => (folder, None, error.to_string()),
        };
        Self {
            path: path.to_owned(),
            line,
            what,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The first findings, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// All of them.
    pub count: usize,
    /// The first ones.
    pub first: Vec<Finding>,
}

impl Findings {
    /// The one finding.
    #[must_use]
    pub(super) fn one(finding: Finding) -> Self {
        Self {
            count: 1,
            first: vec![finding],
        }
    }

    /// Notes what was found in a line; a line that is not known cannot hold anything.
    pub(super) fn at(&mut self, place: Option<LedgerPlace>, what: impl fmt::Display) {
        if let Some(place) = place {
            self.add(&place.segment, Some(place.line), what);
        }
    }

    /// Notes what was found in a file or folder as a whole.
    pub(super) fn within(&mut self, path: &Path, what: impl fmt::Display) {
        self.add(path, None, what);
    }

    fn add(&mut self, path: &Path, line: Option<usize>, what: impl fmt::Display) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(Finding {
                path: path.to_owned(),
                line,
                what: what.to_string(),
            });
        }
    }
}
