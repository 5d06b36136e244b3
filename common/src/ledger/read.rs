//! Reads a ledger's folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::LedgerError;
use super::folder::{SegmentId, newest_fence, segments};
use super::format::{Chain, FormatError, LineAt, Reader};
use super::record::{CommitRecord, End};
use super::trace::{header, trace};
use crate::id::{JobId, Step, Term};
use crate::storage::StorageError;

/// A ledger that holds to its rules.
#[derive(Debug)]
pub struct Ledger {
    /// Whose it is; `None` where nothing was ever written.
    pub job: Option<JobId>,
    /// The committed steps that count, without gap.
    pub records: Vec<CommitRecord>,
    /// Records that counted until their steps were computed again from a checkpoint, as they were written.
    pub replaced: Vec<CommitRecord>,
    /// Lines that a crash cut short; what they would have said was never committed.
    pub torn: Vec<TornLine>,
    /// What a coordinator wrote after a later term had taken the ledger over; it was never committed.
    pub fenced: Vec<FencedLines>,
    pub(super) folder: PathBuf,
    /// The line of each record, and of each replaced one.
    lines: Lines,
    /// The newest term that wrote or put up a fence.
    newest_term: Option<Term>,
    /// What the next segment goes on from.
    pub(super) end: Option<End>,
    pub(super) chain: Chain,
    pub(super) next_step: Option<Step>,
}

#[derive(Debug)]
struct Lines {
    records: Vec<LineAt>,
    replaced: Vec<LineAt>,
}

impl Ledger {
    /// The newest term that has taken the ledger over; the next coordinator takes a later one.
    #[must_use]
    pub const fn last_term(&self) -> Option<Term> {
        self.newest_term
    }

    /// The step that must be committed next; `None` where nothing was ever written.
    #[must_use]
    pub const fn next_step(&self) -> Option<Step> {
        self.next_step
    }

    /// The step that was committed last.
    #[must_use]
    pub fn last(&self) -> Option<&CommitRecord> {
        self.records.last()
    }

    /// Where the record at `index` of [`records`](Self::records) stands.
    #[must_use]
    pub fn place(&self, index: usize) -> Option<LedgerPlace> {
        self.place_of(self.lines.records.get(index))
    }

    /// Where the record at `index` of [`replaced`](Self::replaced) stands.
    #[must_use]
    pub fn place_of_replaced(&self, index: usize) -> Option<LedgerPlace> {
        self.place_of(self.lines.replaced.get(index))
    }

    fn place_of(&self, at: Option<&LineAt>) -> Option<LedgerPlace> {
        at.map(|at| LedgerPlace {
            segment: at.segment.path(&self.folder),
            line: at.line,
        })
    }
}

/// A line of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPlace {
    /// The segment.
    pub segment: PathBuf,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for LedgerPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.segment.display(), self.line)
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

/// Whole lines at the end of a segment that do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FencedLines {
    /// The segment.
    pub segment: PathBuf,
    /// The first of them, from 1.
    pub first_line: usize,
    /// How many.
    pub lines: usize,
}

impl std::fmt::Display for FencedLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (segment, first, lines) = (self.segment.display(), self.first_line, self.lines);
        write!(
            f,
            "{lines} lines of {segment}, from line {first}, were written after a later coordinator had taken over; they \
             were never committed and are left out"
        )
    }
}

/// Reads and checks a whole ledger; a folder that is not there is an empty one.
///
/// # Errors
/// If a segment cannot be read or is missing, or a line was changed, removed, added or moved, or a step is missing or
/// comes twice.
pub fn read(folder: &Path) -> Result<Ledger, LedgerError> {
    let trace = trace(folder)?;
    let mut reading = Reading {
        folder,
        reader: Reader::new(),
        torn: Vec::new(),
        fenced: Vec::new(),
        end: None,
    };
    for (id, end) in &trace.parts {
        reading.segment(*id, *end)?;
    }
    for id in trace.fenced.iter().chain(&trace.torn) {
        reading.left_over(*id)?;
    }
    let Reading {
        reader,
        torn,
        fenced,
        end,
        ..
    } = reading;
    let next_step = reader.next_step();
    let (records, record_lines) = reader.records.into_iter().unzip();
    let (replaced, replaced_lines) = reader.replaced.into_iter().unzip();
    Ok(Ledger {
        job: reader.job,
        records,
        replaced,
        torn,
        fenced,
        folder: folder.to_owned(),
        lines: Lines {
            records: record_lines,
            replaced: replaced_lines,
        },
        newest_term: newest_term(folder)?,
        end,
        chain: reader.chain,
        next_step,
    })
}

/// The newest term that has written to the ledger in `folder` or taken it over.
///
/// # Errors
/// If the folder cannot be read.
pub fn newest_term(folder: &Path) -> Result<Option<Term>, StorageError> {
    let written = segments(folder)?.last().map(|id| id.term);
    Ok(written.max(newest_fence(folder)?))
}

/// Whose the ledger in `folder` is, by its first header and without checking the rest.
///
/// # Errors
/// If the folder or the header cannot be read.
pub fn job_of(folder: &Path) -> Result<Option<JobId>, LedgerError> {
    for id in segments(folder)? {
        if let Some(header) = header(folder, id)? {
            return Ok(Some(header.job));
        }
    }
    Ok(None)
}

/// A ledger that is being read.
struct Reading<'a> {
    folder: &'a Path,
    reader: Reader,
    torn: Vec<TornLine>,
    fenced: Vec<FencedLines>,
    end: Option<End>,
}

impl Reading<'_> {
    /// Takes a segment up to where the next one goes on from, or to its last complete line.
    fn segment(&mut self, id: SegmentId, end: Option<u64>) -> Result<(), LedgerError> {
        let bytes = self.bytes(id)?;
        let complete = complete_bytes(&bytes);
        let expected = end.unwrap_or(complete as u64);
        let counted = usize::try_from(expected)
            .unwrap_or(usize::MAX)
            .min(complete);
        let mut line = 0;
        for text in lines(&bytes[..counted]) {
            line += 1;
            let at = LineAt { segment: id, line };
            let taken = text.and_then(|text| self.reader.line(text, at));
            taken.map_err(|source| self.broken(at, source))?;
        }
        if (counted as u64) < expected {
            let at = LineAt {
                segment: id,
                line: line + 1,
            };
            let found = complete as u64;
            return Err(self.broken(at, FormatError::Short { found, expected }));
        }
        self.end = Some(End {
            segment: id,
            bytes: expected,
        });
        self.behind(id, line, &bytes[counted..])
    }

    /// What stands behind the end of a segment that counts: a line cut short, or one that a fenced coordinator wrote
    /// before it found out.
    fn behind(&mut self, id: SegmentId, counted: usize, bytes: &[u8]) -> Result<(), LedgerError> {
        let mut whole = 0;
        for text in lines(&bytes[..complete_bytes(bytes)]) {
            whole += 1;
            let at = LineAt {
                segment: id,
                line: counted + whole,
            };
            let fits = match whole {
                1 => text.and_then(|text| self.reader.follow(text)).map(drop),
                _ => Err(FormatError::Misplaced(
                    "a second line stands behind the end that the next segment goes on from, but a fenced coordinator \
                     writes no more than one"
                        .to_owned(),
                )),
            };
            fits.map_err(|source| self.broken(at, source))?;
        }
        self.note(id, counted + 1, whole, bytes);
        Ok(())
    }

    /// Notes a segment that does not count at all.
    fn left_over(&mut self, id: SegmentId) -> Result<(), LedgerError> {
        let bytes = self.bytes(id)?;
        let whole = lines(&bytes[..complete_bytes(&bytes)]).count();
        self.note(id, 1, whole, &bytes);
        Ok(())
    }

    fn note(&mut self, id: SegmentId, first_line: usize, lines: usize, bytes: &[u8]) {
        let segment = id.path(self.folder);
        let cut = bytes.len() - complete_bytes(bytes);
        if cut > 0 {
            let segment = segment.clone();
            self.torn.push(TornLine {
                segment,
                bytes: cut,
            });
        }
        if lines > 0 {
            self.fenced.push(FencedLines {
                segment,
                first_line,
                lines,
            });
        }
    }

    fn bytes(&self, id: SegmentId) -> Result<Vec<u8>, StorageError> {
        let path = id.path(self.folder);
        fs::read(&path).map_err(|error| StorageError::new("read", &path, error))
    }

    fn broken(&self, at: LineAt, source: FormatError) -> LedgerError {
        LedgerError::Line {
            segment: at.segment.path(self.folder),
            line: at.line,
            source,
        }
    }
}

/// Up to and with the last line feed.
fn complete_bytes(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    last.map_or(0, |at| at + 1)
}

fn lines(complete: &[u8]) -> impl Iterator<Item = Result<&str, FormatError>> {
    complete.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let text = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line));
        text.map_err(|error| FormatError::Syntax(error.to_string()))
    })
}
