//! Which parts of which segments make the ledger.
//!
//! Each segment's header names the end of the ledger that it goes on from. Walking back from the newest one finds what
//! counts. A coordinator that did not yet know that it was fenced may have written behind such an end, or have begun a
//! segment that nobody goes on from; both were never committed.
//!
//! ```text
//! 0000000001-000000   header  step 0  step 1 │ step 2     behind the end: never committed
//! 0000000001-000001   header                 │            nobody goes on from it: never committed
//! 0000000002-000000                          └─ header  step 2  step 3
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::error::LedgerError;
use super::folder::{SegmentId, segments};
use super::format::{FormatError, header_of};
use super::record::SegmentHeader;

/// The segments of a ledger.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Those that count, in order, each with the bytes that do; `None` in the newest: all complete lines.
    pub(super) parts: Vec<(SegmentId, Option<u64>)>,
    /// Those that a fenced coordinator began.
    pub(super) fenced: Vec<SegmentId>,
    /// Those whose header was cut short.
    pub(super) torn: Vec<SegmentId>,
}

/// Reads the headers and walks back from the newest.
pub(super) fn trace(folder: &Path) -> Result<Trace, LedgerError> {
    let mut headers = BTreeMap::new();
    let mut torn = Vec::new();
    for id in segments(folder)? {
        match header(folder, id)? {
            Some(header) => drop(headers.insert(id, header)),
            None => torn.push(id),
        }
    }
    same_job(folder, &headers)?;
    let parts = walk_back(folder, &headers)?;
    let fenced = left_over(folder, &headers, &parts)?;
    Ok(Trace {
        parts,
        fenced,
        torn,
    })
}

/// The header of a segment, not yet checked against the chain; `None` where it was cut short.
pub(super) fn header(folder: &Path, id: SegmentId) -> Result<Option<SegmentHeader>, LedgerError> {
    let Some(line) = id.first_line(folder)? else {
        return Ok(None);
    };
    let header = header_of(&line).map_err(|source| at_header(folder, id, source))?;
    let said = header.id();
    if said != id {
        let what = format!("the segment calls itself {said}; its file was renamed");
        return Err(misplaced(folder, id, what));
    }
    Ok(Some(header))
}

fn same_job(
    folder: &Path,
    headers: &BTreeMap<SegmentId, SegmentHeader>,
) -> Result<(), LedgerError> {
    let Some(first) = headers.values().next() else {
        return Ok(());
    };
    match headers.iter().find(|(_, other)| other.job != first.job) {
        None => Ok(()),
        Some((id, other)) => {
            let what = format!(
                "the segment is of job {}, the ledger of job {}",
                other.job, first.job
            );
            Err(misplaced(folder, *id, what))
        }
    }
}

fn walk_back(
    folder: &Path,
    headers: &BTreeMap<SegmentId, SegmentHeader>,
) -> Result<Vec<(SegmentId, Option<u64>)>, LedgerError> {
    let mut parts = Vec::new();
    let mut next = headers.last_key_value().map(|(id, _)| (*id, None));
    while let Some((id, end)) = next {
        parts.push((id, end));
        let before = headers[&id].follows;
        if let Some(before) = before {
            if before.segment >= id {
                let what = format!("the segment goes on from {}, a later one", before.segment);
                return Err(misplaced(folder, id, what));
            }
            if !headers.contains_key(&before.segment) {
                return Err(LedgerError::Missing {
                    segment: before.segment.path(folder),
                    named_by: id.path(folder),
                });
            }
        }
        next = before.map(|before| (before.segment, Some(before.bytes)));
    }
    parts.reverse();
    Ok(parts)
}

/// The segments that nobody goes on from. Only a coordinator that a later term has fenced leaves such.
fn left_over(
    folder: &Path,
    headers: &BTreeMap<SegmentId, SegmentHeader>,
    parts: &[(SegmentId, Option<u64>)],
) -> Result<Vec<SegmentId>, LedgerError> {
    let mut left = Vec::new();
    for id in headers.keys() {
        let later = parts.iter().find(|(part, _)| part >= id);
        match later {
            Some((part, _)) if part == id => {}
            Some((part, _)) if part.term == id.term => {
                let what = format!(
                    "the segment does not go on from {id}, which its own coordinator wrote before"
                );
                return Err(misplaced(folder, *part, what));
            }
            Some(_) | None => left.push(*id),
        }
    }
    Ok(left)
}

fn misplaced(folder: &Path, id: SegmentId, what: String) -> LedgerError {
    at_header(folder, id, FormatError::Misplaced(what))
}

fn at_header(folder: &Path, id: SegmentId, source: FormatError) -> LedgerError {
    LedgerError::Line {
        segment: id.path(folder),
        line: 1,
        source,
    }
}
