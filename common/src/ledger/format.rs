//! The ledger's lines: how they are written, chained and checked. No file is touched here.
//!
//! A line is `{"entry":{…},"digest":"…"}`, where the digest is SHA-256 over the digest of the line before (32 zero bytes
//! before the first) followed by the entry's JSON. The chain runs through all segments, from the end of one that the next
//! names.

use serde::{Deserialize, Serialize};

use super::folder::SegmentId;
use super::record::{CommitRecord, SegmentHeader};
use crate::id::{Digest, JobId, Step};

/// What this version writes. Grows when an older reader would misread a ledger.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A segment starts.
    Segment(SegmentHeader),
    /// A step is committed.
    Commit(CommitRecord),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: Entry,
    digest: Digest,
}

/// Why a line is not the one that belongs there.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Not a line of a ledger.
    #[error("the line is damaged: {0}")]
    Syntax(String),
    /// Something before or in it was changed, removed, added or moved.
    #[error(
        "the line does not follow from the one before: one of the two was changed, or lines were removed or added between them"
    )]
    Chain,
    /// A step is missing, or comes twice.
    #[error("step {} stands where step {} must follow", found.next(), expected.next())]
    Order {
        /// The step that must follow.
        expected: Step,
        /// The step that is there.
        found: Step,
    },
    /// Less is there than the next segment goes on from.
    #[error(
        "the segment ends after {found} bytes, but the next one goes on from byte {expected}: lines were removed"
    )]
    Short {
        /// Bytes that are there.
        found: u64,
        /// Bytes that were there.
        expected: u64,
    },
    /// A segment or record that belongs to something else, or starts past what was committed.
    #[error("{0}")]
    Misplaced(String),
    /// Written by a weft with another format.
    #[error(
        "the ledger has format version {found}, but this weft reads {FORMAT_VERSION}; use the weft that wrote it"
    )]
    Version {
        /// The version it has.
        found: u32,
    },
}

/// The end of a chain of lines: what the next line must follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain(pub(super) Digest);

impl Chain {
    /// Before the first line.
    pub(super) const START: Self = Self(Digest([0; 32]));

    /// The line for `entry`, with its line feed, and the chain after it.
    pub(super) fn line(self, entry: Entry) -> (String, Self) {
        let next = self.after(&entry);
        let line = Line {
            entry,
            digest: next.0,
        };
        (to_json(&line) + "\n", next)
    }

    fn after(self, entry: &Entry) -> Self {
        let mut bytes = self.0.0.to_vec();
        bytes.extend_from_slice(to_json(entry).as_bytes());
        Self(Digest::of(&bytes))
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect(
        "a line holds only numbers, text and lists, and floating-point numbers are written as text",
    )
}

/// The segment header that `text` holds, unchecked but for its version.
pub(super) fn header_of(text: &str) -> Result<SegmentHeader, FormatError> {
    if let Some(found) = version_of(text).filter(|found| *found != FORMAT_VERSION) {
        return Err(FormatError::Version { found });
    }
    let line: Line =
        serde_json::from_str(text).map_err(|error| FormatError::Syntax(error.to_string()))?;
    match line.entry {
        Entry::Segment(header) => Ok(header),
        Entry::Commit(_) => Err(FormatError::Misplaced(
            "a segment does not begin with its header".to_owned(),
        )),
    }
}

/// The version that a header has, whatever else another version writes there.
fn version_of(text: &str) -> Option<u32> {
    let line: serde_json::Value = serde_json::from_str(text).ok()?;
    let version = line.pointer("/entry/segment/format_version")?.as_u64()?;
    u32::try_from(version).ok()
}

/// A line of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineAt {
    pub(super) segment: SegmentId,
    /// From 1.
    pub(super) line: usize,
}

/// Reads a ledger line by line, and holds it to its rules.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) chain: Chain,
    pub(super) job: Option<JobId>,
    /// The segment that is being read.
    segment: Option<SegmentId>,
    /// What counts so far, without gap, with the line that says it.
    pub(super) records: Vec<(CommitRecord, LineAt)>,
    /// What counted until its step was begun anew.
    pub(super) replaced: Vec<(CommitRecord, LineAt)>,
    next_step: Option<Step>,
}

impl Reader {
    pub(super) const fn new() -> Self {
        Self {
            chain: Chain::START,
            job: None,
            segment: None,
            records: Vec::new(),
            replaced: Vec::new(),
            next_step: None,
        }
    }

    /// Takes the next line, without its line feed.
    pub(super) fn line(&mut self, text: &str, at: LineAt) -> Result<(), FormatError> {
        let (entry, next) = self.follow(text)?;
        match entry {
            Entry::Segment(header) => self.segment(header)?,
            Entry::Commit(record) => self.commit(record, at)?,
        }
        self.chain = next;
        Ok(())
    }

    /// What `text` says, if it follows from the line that was taken last.
    pub(super) fn follow(&self, text: &str) -> Result<(Entry, Chain), FormatError> {
        let line: Line =
            serde_json::from_str(text).map_err(|error| FormatError::Syntax(error.to_string()))?;
        let next = self.chain.after(&line.entry);
        // The text must be what would be written, so that no byte of it can be changed unseen.
        if next.0 != line.digest || to_json(&line) != text {
            return Err(FormatError::Chain);
        }
        Ok((line.entry, next))
    }

    /// The step that must be committed next; `None` before the first segment.
    pub(super) const fn next_step(&self) -> Option<Step> {
        self.next_step
    }

    fn segment(&mut self, header: SegmentHeader) -> Result<(), FormatError> {
        let misplaced = |what: String| Err(FormatError::Misplaced(what));
        if header.format_version != FORMAT_VERSION {
            let found = header.format_version;
            return Err(FormatError::Version { found });
        }
        if let Some(job) = self.job.as_ref().filter(|job| **job != header.job) {
            return misplaced(format!(
                "the segment is of job {}, the ledger of job {job}",
                header.job
            ));
        }
        let id = header.id();
        if let Some(before) = self.segment.filter(|before| *before >= id) {
            return misplaced(format!("segment {id} follows segment {before}"));
        }
        if let Some(next) = self.next_step.filter(|next| header.first_step > *next) {
            let found = header.first_step;
            return Err(FormatError::Order {
                expected: next,
                found,
            });
        }
        let counts = |(record, _): &(CommitRecord, LineAt)| record.step < header.first_step;
        let kept = self.records.partition_point(counts);
        self.replaced.extend(self.records.drain(kept..));
        self.next_step = Some(header.first_step);
        self.segment = Some(id);
        self.job = Some(header.job);
        Ok(())
    }

    fn commit(&mut self, record: CommitRecord, at: LineAt) -> Result<(), FormatError> {
        let (Some(SegmentId { term, .. }), Some(expected)) = (self.segment, self.next_step) else {
            return Err(FormatError::Misplaced(
                "a record stands before the first segment's header".to_owned(),
            ));
        };
        if record.term != term {
            let what = format!(
                "the record is of term {}, its segment of term {term}",
                record.term
            );
            return Err(FormatError::Misplaced(what));
        }
        if record.step != expected {
            let found = record.step;
            return Err(FormatError::Order { expected, found });
        }
        self.next_step = Some(expected.next());
        self.records.push((record, at));
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
