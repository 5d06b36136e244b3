//! What is written is read again, whatever came between.

use std::fs;

use super::super::format::tests::record;
use super::super::{FencedLines, FormatError, TornLine};
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

fn segment_path(folder: &Path, term: u64, sequence: u32) -> PathBuf {
    let term = Term(term);
    SegmentId { term, sequence }.path(folder)
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
    let segment = segment_path(folder.path(), 1, 0);
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
    let segment = segment_path(folder.path(), 1, 0);
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("0.0002", "0.0003", 1)).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            LedgerError::Line {
                line: 2,
                source: FormatError::Chain,
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
    fs::remove_file(segment_path(folder.path(), 1, 0)).unwrap();
    let missing = read(folder.path()).unwrap_err();
    assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
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
    let mut writer = open(folder.path(), 3, 2).unwrap();
    assert!(matches!(
        writer.append(&record(3, 3)),
        Err(LedgerError::Order { .. })
    ));
    assert!(matches!(
        writer.append(&record(4, 2)),
        Err(LedgerError::Fenced { .. })
    ));
    writer.append(&record(3, 2)).unwrap();
}

#[test]
fn a_segment_is_created_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path(), 2, 0).unwrap();
    fs::write(segment_path(folder.path(), 2, 1), "someone else's").unwrap();
    writer.segment_limit = 1;
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
    writer.segment_limit = 1;
    writer.append(&record(1, 1)).unwrap();
    assert!(segment_path(folder.path(), 1, 1).exists());
    assert_eq!(steps(&read(folder.path()).unwrap()), [(1, 0), (1, 1)]);
}

#[test]
fn going_back_within_a_term_replaces_the_steps_from_there_on() {
    let folder = two_steps();
    let mut writer = open(folder.path(), 2, 2).unwrap();
    writer.append(&record(2, 2)).unwrap();
    writer.rewind(Step(1)).unwrap();
    assert_eq!(writer.next_step(), Step(1));
    for step in 1..4 {
        writer.append(&record(2, step)).unwrap();
    }
    let ledger = read(folder.path()).unwrap();
    assert_eq!(steps(&ledger), [(1, 0), (2, 1), (2, 2), (2, 3)]);
    let replaced = ledger
        .replaced
        .iter()
        .map(|record| (record.term.0, record.step.0));
    assert_eq!(replaced.collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    assert_eq!((ledger.torn, ledger.fenced), (vec![], vec![]));
}

#[test]
fn going_ahead_is_refused_and_the_writer_goes_on() {
    let folder = two_steps();
    let mut writer = open(folder.path(), 2, 2).unwrap();
    assert!(matches!(
        writer.rewind(Step(3)),
        Err(LedgerError::Order { found: Step(3), .. })
    ));
    writer.rewind(Step(2)).unwrap();
    writer.append(&record(2, 2)).unwrap();
    assert_eq!(steps(&read(folder.path()).unwrap()).len(), 3);
}

#[test]
fn a_restarted_coordinator_learns_what_was_committed_and_goes_on_there() {
    let folder = two_steps();
    let job = job_of(folder.path()).unwrap().unwrap();
    let term = newest_term(folder.path()).unwrap().unwrap().next();
    let (mut writer, ledger) = LedgerWriter::resume(folder.path(), job, term).unwrap();
    assert_eq!(ledger.last(), Some(&record(1, 1)));
    assert_eq!(
        (writer.next_step(), ledger.next_step()),
        (Step(2), Some(Step(2)))
    );
    writer.append(&record(2, 2)).unwrap();
    assert_eq!(
        steps(&read(folder.path()).unwrap()),
        [(1, 0), (1, 1), (2, 2)]
    );
}

#[test]
fn a_job_that_is_handed_in_again_goes_on_in_the_same_term_only_where_that_is_asked_for() {
    let folder = two_steps();
    let job = job_of(folder.path()).unwrap().unwrap();
    let term = newest_term(folder.path()).unwrap().unwrap();
    assert!(open(folder.path(), term.0, 1).is_err());
    let again = LedgerWriter::open_again(folder.path(), job.clone(), term, Step(1));
    again.unwrap().append(&record(term.0, 1)).unwrap();
    let again = LedgerWriter::open_again(folder.path(), job.clone(), term, Step(2));
    again.unwrap().append(&record(term.0, 2)).unwrap();
    let ledger = read(folder.path()).unwrap();
    assert_eq!(steps(&ledger), [(1, 0), (1, 1), (1, 2)]);
    let older = LedgerWriter::open_again(folder.path(), job, Term(term.0 - 1), Step(2));
    assert!(
        matches!(older, Err(LedgerError::Fenced { .. })),
        "{older:?}"
    );
}

#[test]
fn resuming_nothing_begins_at_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(job_of(folder.path()).unwrap(), None);
    let job = "job-1".parse().unwrap();
    let (writer, ledger) = LedgerWriter::resume(folder.path(), job, Term(1)).unwrap();
    assert_eq!((writer.next_step(), ledger.last()), (Step(0), None));
}

#[test]
fn the_older_of_two_coordinators_commits_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = open(folder.path(), 1, 0).unwrap();
    old.append(&record(1, 0)).unwrap();
    let mut new = open(folder.path(), 2, 1).unwrap();

    let refused = old.append(&record(1, 1)).unwrap_err();

    assert!(
        matches!(
            refused,
            LedgerError::Fenced {
                found: Term(2),
                term: Term(1),
                ..
            }
        ),
        "{refused}"
    );
    for step in 1..3 {
        new.append(&record(2, step)).unwrap();
    }
    let ledger = read(folder.path()).unwrap();
    assert_eq!(steps(&ledger), [(1, 0), (2, 1), (2, 2)]);
    let fenced = FencedLines {
        segment: segment_path(folder.path(), 1, 0),
        first_line: 3,
        lines: 1,
    };
    assert_eq!((ledger.fenced, ledger.replaced), (vec![fenced], vec![]));
    // And a third one goes on where the second ended.
    open(folder.path(), 3, 3)
        .unwrap()
        .append(&record(3, 3))
        .unwrap();
    assert_eq!(steps(&read(folder.path()).unwrap()).len(), 4);
}

#[test]
fn what_was_durable_before_the_fence_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = open(folder.path(), 1, 0).unwrap();
    old.append(&record(1, 0)).unwrap();
    // The newer one puts up its fence, the older one appends, and only then the newer one reads.
    assert!(raise_fence(folder.path(), Term(2)).unwrap());
    assert!(matches!(
        old.append(&record(1, 1)),
        Err(LedgerError::Fenced { .. })
    ));
    let (new, ledger) = {
        let ledger = read(folder.path()).unwrap();
        let job = "job-1".parse().unwrap();
        let next = ledger.next_step().unwrap();
        (
            LedgerWriter::begin(&ledger, job, Term(2), next).unwrap(),
            ledger,
        )
    };
    assert_eq!(new.next_step(), Step(2));
    assert_eq!(ledger.last(), Some(&record(1, 1)));
    assert_eq!(read(folder.path()).unwrap().fenced, vec![]);
}

#[test]
fn a_segment_that_a_fenced_coordinator_began_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = open(folder.path(), 1, 0).unwrap();
    old.append(&record(1, 0)).unwrap();
    let mut new = open(folder.path(), 2, 1).unwrap();
    old.segment_limit = 1;
    assert!(old.append(&record(1, 1)).is_err());
    new.append(&record(2, 1)).unwrap();
    let ledger = read(folder.path()).unwrap();
    assert_eq!(steps(&ledger), [(1, 0), (2, 1)]);
    assert_eq!(ledger.fenced[0].segment, segment_path(folder.path(), 1, 1));
    assert_eq!((ledger.fenced.len(), ledger.fenced[0].lines), (1, 2));
}

#[test]
fn going_back_does_not_get_past_a_fence() {
    let folder = two_steps();
    let mut old = open(folder.path(), 2, 2).unwrap();
    open(folder.path(), 3, 2).unwrap();
    assert!(matches!(
        old.rewind(Step(0)),
        Err(LedgerError::Fenced { .. })
    ));
    assert_eq!(steps(&read(folder.path()).unwrap()), [(1, 0), (1, 1)]);
}

#[test]
fn a_term_is_taken_once_and_a_stranger_fences_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path(), 1, 0).unwrap();
    let stranger = LedgerWriter::open(folder.path(), "job-2".parse().unwrap(), Term(2), Step(0));
    assert!(matches!(stranger, Err(LedgerError::Job { .. })));
    writer.append(&record(1, 0)).unwrap();
    assert!(raise_fence(folder.path(), Term(2)).unwrap());
    assert!(matches!(
        open(folder.path(), 2, 1),
        Err(LedgerError::Fenced {
            found: Term(2),
            term: Term(2),
            ..
        })
    ));
}

#[test]
fn lines_that_no_fenced_coordinator_writes_are_found() {
    let folder = two_steps();
    open(folder.path(), 2, 2).unwrap();
    let segment = segment_path(folder.path(), 1, 0);
    let honest = fs::read_to_string(&segment).unwrap();
    let last = honest.lines().last().unwrap();
    fs::write(&segment, format!("{honest}{last}\n")).unwrap();
    let found = read(folder.path()).unwrap_err();
    assert!(
        matches!(found, LedgerError::Line { line: 4, .. }),
        "{found}"
    );
}

#[test]
fn lines_missing_at_the_end_of_a_segment_are_found() {
    let folder = two_steps();
    open(folder.path(), 2, 2).unwrap();
    let segment = segment_path(folder.path(), 1, 0);
    let text = fs::read_to_string(&segment).unwrap();
    let kept: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&segment, kept).unwrap();
    let found = read(folder.path()).unwrap_err();
    let short = |error: &LedgerError| {
        matches!(
            error,
            LedgerError::Line {
                line: 3,
                source: FormatError::Short { .. },
                ..
            }
        )
    };
    assert!(short(&found), "{found}");
}
