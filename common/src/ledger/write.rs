//! Appends to a ledger.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::LedgerError;
use super::folder::{SegmentId, newest_fence, raise_fence, segments};
use super::format::{Chain, Entry, FORMAT_VERSION};
use super::read::{Ledger, job_of, newest_term, read};
use super::record::{CommitRecord, End, SegmentHeader};
use crate::id::{JobId, Step, Term};
use crate::storage::{StorageError, create_folder, sync_folder};

/// A segment is closed at this size, so that one is shipped, read and lost in handy pieces: some ten thousand steps.
const SEGMENT_BYTES: u64 = 8 << 20;

/// The one that may append to a job's ledger in its term.
#[derive(Debug)]
pub struct LedgerWriter {
    folder: PathBuf,
    job: JobId,
    term: Term,
    chain: Chain,
    next_step: Step,
    segment: Segment,
    /// The next record goes into another segment once this one has so many bytes.
    segment_limit: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    id: SegmentId,
    bytes: u64,
}

impl LedgerWriter {
    /// Takes over the ledger in `folder`, or begins it, in a new segment whose first record will be `first_step`.
    /// Records of that step and after it no longer count: they are about to be computed again. From now on, writers of
    /// older terms fail.
    ///
    /// # Errors
    /// If the ledger breaks its rules, is another job's, was taken over in this term or a newer one, ends before
    /// `first_step`, or the disk does not take a new segment.
    pub fn open(
        folder: &Path,
        job: JobId,
        term: Term,
        first_step: Step,
    ) -> Result<Self, LedgerError> {
        let ledger = take_over(folder, &job, term)?;
        Self::begin(&ledger, job, term, first_step)
    }

    /// As [`open`](Self::open), where this coordinator, in this term, wrote the ledger before and has closed it: its job was
    /// handed in again. Only for coordinators whose terms nobody else can have.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the term.
    pub fn open_again(
        folder: &Path,
        job: JobId,
        term: Term,
        first_step: Step,
    ) -> Result<Self, LedgerError> {
        let own = newest_term(folder)? == Some(term) && job_of(folder)?.as_ref() == Some(&job);
        let ledger = if own {
            read(folder)?
        } else {
            take_over(folder, &job, term)?
        };
        Self::begin(&ledger, job, term, first_step)
    }

    /// As [`open`](Self::open), exactly where the ledger ends. Gives the ledger as well: with it a coordinator knows
    /// what was committed before it started.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn resume(folder: &Path, job: JobId, term: Term) -> Result<(Self, Ledger), LedgerError> {
        let ledger = take_over(folder, &job, term)?;
        let first_step = ledger.next_step().unwrap_or(Step(0));
        let writer = Self::begin(&ledger, job, term, first_step)?;
        Ok((writer, ledger))
    }

    fn begin(
        ledger: &Ledger,
        job: JobId,
        term: Term,
        first_step: Step,
    ) -> Result<Self, LedgerError> {
        let folder = ledger.folder.clone();
        if let Some(expected) = ledger.next_step.filter(|expected| first_step > *expected) {
            return Err(LedgerError::Order {
                folder,
                expected,
                found: first_step,
            });
        }
        let own = segments(&folder)?.into_iter().filter(|id| id.term == term);
        let sequence = own.map(|id| id.sequence + 1).max().unwrap_or(0);
        let id = SegmentId { term, sequence };
        let header = header(&job, id, first_step, ledger.end);
        let (segment, chain) = Segment::create(&folder, header, ledger.chain)?;
        let writer = Self {
            folder,
            job,
            term,
            chain,
            next_step: first_step,
            segment,
            segment_limit: SEGMENT_BYTES,
        };
        writer.heed_fence()?;
        Ok(writer)
    }

    /// The step that must be appended next.
    #[must_use]
    pub const fn next_step(&self) -> Step {
        self.next_step
    }

    /// Appends a record. When this returns, the step is committed: the record survives a loss of power, and whoever
    /// takes the ledger over reads it.
    ///
    /// **Cost**: one write, one sync, and one look into the folder.
    ///
    /// # Errors
    /// If the record is not of the next step or of another term, a later term has taken the ledger over, or the disk
    /// does not take it. After a failure of the disk or a fence the writer must not be used again: how much of the line
    /// is there, and whether it counts, is unknown.
    pub fn append(&mut self, record: &CommitRecord) -> Result<(), LedgerError> {
        if record.step != self.next_step {
            return Err(self.out_of_order(record.step));
        }
        if record.term != self.term {
            return Err(LedgerError::Fenced {
                folder: self.folder.clone(),
                found: self.term,
                term: record.term,
            });
        }
        if self.segment.bytes >= self.segment_limit {
            self.next_segment(self.next_step)?;
        }
        let (line, chain) = self.chain.line(Entry::Commit(record.clone()));
        self.segment.append(&line)?;
        // Only now: what is durable before the fence is read by the one that put it up.
        self.heed_fence()?;
        self.chain = chain;
        self.next_step = record.step.next();
        Ok(())
    }

    /// Goes back to `first_step`, which will be appended next: records of that step and after it no longer count,
    /// because the state that they led to is lost and they are about to be computed again.
    ///
    /// # Errors
    /// If nothing leads to `first_step` yet, a later term has taken the ledger over, or the disk does not take a new
    /// segment.
    pub fn rewind(&mut self, first_step: Step) -> Result<(), LedgerError> {
        if first_step > self.next_step {
            return Err(self.out_of_order(first_step));
        }
        self.next_segment(first_step)?;
        self.heed_fence()?;
        self.next_step = first_step;
        Ok(())
    }

    fn next_segment(&mut self, first_step: Step) -> Result<(), LedgerError> {
        let before = self.segment.id;
        let id = SegmentId {
            sequence: before.sequence + 1,
            ..before
        };
        let end = End {
            segment: before,
            bytes: self.segment.bytes,
        };
        let header = header(&self.job, id, first_step, Some(end));
        (self.segment, self.chain) = Segment::create(&self.folder, header, self.chain)?;
        Ok(())
    }

    /// Fails once a later term has put up its fence. Appending looks by itself; who has nothing to append should look
    /// now and then.
    ///
    /// **Cost**: one look into the folder.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], or the folder cannot be read.
    pub fn heed_fence(&self) -> Result<(), LedgerError> {
        match newest_fence(&self.folder)?.filter(|fence| *fence > self.term) {
            None => Ok(()),
            Some(found) => Err(LedgerError::Fenced {
                folder: self.folder.clone(),
                found,
                term: self.term,
            }),
        }
    }

    fn out_of_order(&self, found: Step) -> LedgerError {
        LedgerError::Order {
            folder: self.folder.clone(),
            expected: self.next_step,
            found,
        }
    }
}

/// Puts up the fence of `term`, and only then reads: a record is either durable before the fence, and read here, or its
/// writer sees the fence and never reports it.
fn take_over(folder: &Path, job: &JobId, term: Term) -> Result<Ledger, LedgerError> {
    create_folder(folder)?;
    if let Some(found) = job_of(folder)?.filter(|found| found != job) {
        return Err(LedgerError::Job {
            folder: folder.to_owned(),
            found,
            expected: job.clone(),
        });
    }
    let newest = newest_term(folder)?.filter(|newest| *newest >= term);
    if newest.is_some() || !raise_fence(folder, term)? {
        return Err(LedgerError::Fenced {
            folder: folder.to_owned(),
            found: newest.unwrap_or(term),
            term,
        });
    }
    read(folder)
}

fn header(job: &JobId, id: SegmentId, first_step: Step, follows: Option<End>) -> SegmentHeader {
    SegmentHeader {
        format_version: FORMAT_VERSION,
        job: job.clone(),
        term: id.term,
        sequence: id.sequence,
        first_step,
        follows,
    }
}

impl Segment {
    fn create(
        folder: &Path,
        header: SegmentHeader,
        chain: Chain,
    ) -> Result<(Self, Chain), StorageError> {
        let id = header.id();
        let path = id.path(folder);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let file = file.map_err(|error| StorageError::new("create", &path, error))?;
        let mut segment = Self {
            file,
            path,
            id,
            bytes: 0,
        };
        let (line, chain) = chain.line(Entry::Segment(header));
        segment.append(&line)?;
        sync_folder(folder)?;
        Ok((segment, chain))
    }

    fn append(&mut self, line: &str) -> Result<(), StorageError> {
        let written = self.file.write_all(line.as_bytes());
        let durable = written.and_then(|()| self.file.sync_data());
        durable.map_err(|error| StorageError::new("append to", &self.path, error))?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
