//! Appends to a ledger.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::format::{Chain, Entry, FORMAT_VERSION};
use super::read::{LedgerError, read, segment_path};
use super::record::{CommitRecord, SegmentHeader};
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
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    sequence: u32,
    bytes: u64,
}

impl LedgerWriter {
    /// Goes on with the ledger in `folder`, or begins it, in a new segment whose first record will be `first_step`.
    /// Records of that step and after it no longer count: they are about to be computed again.
    ///
    /// # Errors
    /// If the ledger breaks its rules, is another job's, was written to in this term or a newer one, ends before
    /// `first_step`, or the disk does not take a new segment.
    pub fn open(
        folder: &Path,
        job: JobId,
        term: Term,
        first_step: Step,
    ) -> Result<Self, LedgerError> {
        create_folder(folder)?;
        let ledger = read(folder)?;
        let at = || folder.to_owned();
        if let Some(found) = ledger.job.filter(|found| *found != job) {
            let folder = at();
            return Err(LedgerError::Job {
                folder,
                found,
                expected: job,
            });
        }
        if let Some((found, _)) = ledger.last_segment.filter(|(found, _)| *found >= term) {
            let folder = at();
            return Err(LedgerError::Fenced {
                folder,
                found,
                term,
            });
        }
        if let Some(expected) = ledger.next_step.filter(|expected| first_step > *expected) {
            let (folder, found) = (at(), first_step);
            return Err(LedgerError::Order {
                folder,
                expected,
                found,
            });
        }
        let (segment, chain) =
            Segment::create(folder, &header(&job, term, 0, first_step), ledger.chain)?;
        Ok(Self {
            folder: folder.to_owned(),
            job,
            term,
            chain,
            next_step: first_step,
            segment,
        })
    }

    /// The step that must be appended next.
    #[must_use]
    pub const fn next_step(&self) -> Step {
        self.next_step
    }

    /// Appends a record. When this returns, the step is committed: the record survives a loss of power.
    ///
    /// # Errors
    /// If the record is not of the next step or of another term, or the disk does not take it. After a failure of the
    /// disk the writer must not be used again: how much of the line is there is unknown.
    pub fn append(&mut self, record: &CommitRecord) -> Result<(), LedgerError> {
        if record.step != self.next_step {
            return Err(LedgerError::Order {
                folder: self.folder.clone(),
                expected: self.next_step,
                found: record.step,
            });
        }
        if record.term != self.term {
            return Err(LedgerError::Fenced {
                folder: self.folder.clone(),
                found: self.term,
                term: record.term,
            });
        }
        if self.segment.bytes >= SEGMENT_BYTES {
            self.next_segment()?;
        }
        let (line, chain) = self.chain.line(Entry::Commit(record.clone()));
        self.segment.append(&line)?;
        self.chain = chain;
        self.next_step = record.step.next();
        Ok(())
    }

    fn next_segment(&mut self) -> Result<(), LedgerError> {
        let header = header(
            &self.job,
            self.term,
            self.segment.sequence + 1,
            self.next_step,
        );
        (self.segment, self.chain) = Segment::create(&self.folder, &header, self.chain)?;
        Ok(())
    }
}

fn header(job: &JobId, term: Term, sequence: u32, first_step: Step) -> SegmentHeader {
    SegmentHeader {
        format_version: FORMAT_VERSION,
        job: job.clone(),
        term,
        sequence,
        first_step,
    }
}

impl Segment {
    fn create(
        folder: &Path,
        header: &SegmentHeader,
        chain: Chain,
    ) -> Result<(Self, Chain), StorageError> {
        let path = segment_path(folder, header.term, header.sequence);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let file = file.map_err(|error| StorageError::new("create", &path, error))?;
        let mut segment = Self {
            file,
            path,
            sequence: header.sequence,
            bytes: 0,
        };
        let (line, chain) = chain.line(Entry::Segment(header.clone()));
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
mod tests {
    use std::fs;

    use super::super::format::tests::record;
    use super::super::{Ledger, TornLine};
    use super::*;
    use crate::storage::StorageFault;

    fn open(folder: &Path, term: u64, first_step: u64) -> Result<LedgerWriter, LedgerError> {
        LedgerWriter::open(
            folder,
            "job-1".parse().unwrap(),
            Term(term),
            Step(first_step),
        )
    }

    fn steps(ledger: &Ledger) -> Vec<(u64, u64)> {
        ledger
            .records
            .iter()
            .map(|record| (record.term.0, record.step.0))
            .collect()
    }

    /// A ledger of one term with steps 0 and 1.
    fn two_steps() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(folder.path(), 1, 0).unwrap();
        for step in 0..2 {
            writer.append(&record(1, step)).unwrap();
        }
        folder
    }

    #[test]
    fn a_new_term_goes_on_where_the_last_ended() {
        let folder = two_steps();
        open(folder.path(), 2, 2)
            .unwrap()
            .append(&record(2, 2))
            .unwrap();
        let ledger = read(folder.path()).unwrap();
        assert_eq!(steps(&ledger), [(1, 0), (1, 1), (2, 2)]);
        assert_eq!((ledger.torn, ledger.next_step), (vec![], Some(Step(3))));
    }

    #[test]
    fn a_run_from_a_checkpoint_replaces_the_steps_after_it() {
        let folder = two_steps();
        open(folder.path(), 2, 1)
            .unwrap()
            .append(&record(2, 1))
            .unwrap();
        assert_eq!(steps(&read(folder.path()).unwrap()), [(1, 0), (2, 1)]);
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_reported_and_written_anew() {
        let folder = two_steps();
        let segment = segment_path(folder.path(), Term(1), 0);
        let bytes = fs::read(&segment).unwrap();
        fs::write(&segment, &bytes[..bytes.len() - 10]).unwrap();
        let ledger = read(folder.path()).unwrap();
        assert_eq!(steps(&ledger), [(1, 0)]);
        assert!(matches!(&ledger.torn[..], [TornLine { segment: at, .. }] if *at == segment));
        open(folder.path(), 2, 1)
            .unwrap()
            .append(&record(2, 1))
            .unwrap();
        assert_eq!(steps(&read(folder.path()).unwrap()), [(1, 0), (2, 1)]);
    }

    #[test]
    fn a_changed_line_is_found_and_named() {
        let folder = two_steps();
        let segment = segment_path(folder.path(), Term(1), 0);
        let text = fs::read_to_string(&segment).unwrap();
        fs::write(&segment, text.replacen("0.0002", "0.0003", 1)).unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(
            matches!(
                error,
                LedgerError::Line {
                    line: 2,
                    source: super::super::FormatError::Chain,
                    ..
                }
            ),
            "{error}"
        );
        assert!(open(folder.path(), 2, 2).is_err());
    }

    #[test]
    fn a_segment_that_was_taken_away_is_found() {
        let folder = two_steps();
        open(folder.path(), 2, 2)
            .unwrap()
            .append(&record(2, 2))
            .unwrap();
        fs::remove_file(segment_path(folder.path(), Term(1), 0)).unwrap();
        assert!(matches!(
            read(folder.path()),
            Err(LedgerError::Line { line: 1, .. })
        ));
    }

    #[test]
    fn an_old_term_another_job_and_a_gap_are_refused() {
        let folder = two_steps();
        assert!(matches!(
            open(folder.path(), 1, 2),
            Err(LedgerError::Fenced { found: Term(1), .. })
        ));
        let job = "job-2".parse().unwrap();
        let stranger = LedgerWriter::open(folder.path(), job, Term(2), Step(2));
        assert!(matches!(stranger, Err(LedgerError::Job { .. })));
        assert!(matches!(
            open(folder.path(), 2, 3),
            Err(LedgerError::Order {
                expected: Step(2),
                ..
            })
        ));
        let mut writer = open(folder.path(), 2, 2).unwrap();
        assert!(matches!(
            writer.append(&record(2, 3)),
            Err(LedgerError::Order { .. })
        ));
        assert!(matches!(
            writer.append(&record(3, 2)),
            Err(LedgerError::Fenced { .. })
        ));
        writer.append(&record(2, 2)).unwrap();
    }

    #[test]
    fn a_segment_is_created_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(folder.path(), 2, 0).unwrap();
        fs::write(segment_path(folder.path(), Term(2), 1), "someone else's").unwrap();
        writer.segment.bytes = SEGMENT_BYTES;
        let LedgerError::Storage(error) = writer.append(&record(2, 0)).unwrap_err() else {
            panic!("not a storage error");
        };
        assert_eq!((error.doing, error.fault), ("create", StorageFault::Device));
    }

    #[test]
    fn a_full_segment_is_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(folder.path(), 1, 0).unwrap();
        writer.append(&record(1, 0)).unwrap();
        writer.segment.bytes = SEGMENT_BYTES;
        writer.append(&record(1, 1)).unwrap();
        assert!(segment_path(folder.path(), Term(1), 1).exists());
        assert_eq!(steps(&read(folder.path()).unwrap()), [(1, 0), (1, 1)]);
    }
}
