//! Lines, written and read.

use proptest::prelude::*;

use super::super::record::{SlotRecord, Update};
use super::*;
use crate::id::{Epoch, SlotId, Term, WorkerId};

pub(in crate::ledger) fn record(term: u64, step: u64) -> CommitRecord {
    CommitRecord {
        step: Step(step),
        data_epoch: 0,
        term: Term(term),
        epoch: Epoch(1),
        slots: vec![SlotRecord {
            slot: SlotId(0),
            worker: WorkerId::from_number(7),
            rows: vec![3, 1, 4],
            tokens: 100,
            supervised_tokens: 60,
            loss_sum: 0.1 + step as f64,
            digest: Digest::of(b"slot"),
        }],
        gradient_digest: Digest::of(&step.to_le_bytes()),
        state_digest: Digest::of(b"state"),
        update: Update::Apply,
        learning_rate: 2e-4,
        previous_grad_norm: 0.5,
    }
}

fn header(term: u64, sequence: u32, first_step: u64) -> Entry {
    Entry::Segment(SegmentHeader {
        format_version: FORMAT_VERSION,
        job: "job-1".parse().unwrap(),
        term: Term(term),
        sequence,
        first_step: Step(first_step),
        follows: None,
    })
}

fn commit(term: u64, step: u64) -> Entry {
    Entry::Commit(record(term, step))
}

fn lines(entries: Vec<Entry>) -> Vec<String> {
    let mut chain = Chain::START;
    let lines = entries.into_iter().map(|entry| {
        let (line, next) = chain.line(entry);
        chain = next;
        line.trim_end().to_owned()
    });
    lines.collect()
}

const AT: LineAt = LineAt {
    segment: SegmentId {
        term: Term(1),
        sequence: 0,
    },
    line: 1,
};

fn read(lines: &[String]) -> Result<Reader, FormatError> {
    let mut reader = Reader::new();
    lines.iter().try_for_each(|line| reader.line(line, AT))?;
    Ok(reader)
}

fn steps(records: &[(CommitRecord, LineAt)]) -> Vec<(u64, u64)> {
    let steps = records
        .iter()
        .map(|(record, _)| (record.step.0, record.term.0));
    steps.collect()
}

#[test]
fn a_gap_and_a_repetition_are_refused() {
    let gap = lines(vec![header(1, 0, 0), commit(1, 0), commit(1, 2)]);
    let refused = read(&gap).unwrap_err();
    assert!(
        matches!(
            refused,
            FormatError::Order {
                expected: Step(1),
                found: Step(2)
            }
        ),
        "{refused}"
    );
    let twice = lines(vec![header(1, 0, 0), commit(1, 0), commit(1, 0)]);
    assert!(matches!(read(&twice), Err(FormatError::Order { .. })));
    let skipping = lines(vec![header(1, 0, 0), commit(1, 0), header(2, 0, 2)]);
    assert!(matches!(read(&skipping), Err(FormatError::Order { .. })));
}

#[test]
fn a_segment_that_goes_back_replaces_what_followed() {
    let entries = vec![
        header(1, 0, 0),
        commit(1, 0),
        commit(1, 1),
        commit(1, 2),
        header(2, 0, 1),
        commit(2, 1),
    ];
    let reader = read(&lines(entries)).unwrap();
    assert_eq!(steps(&reader.records), [(0, 1), (1, 2)]);
    assert_eq!(steps(&reader.replaced), [(1, 1), (2, 1)]);
    assert_eq!(reader.next_step(), Some(Step(2)));
}

#[test]
fn strangers_are_refused() {
    for entries in [
        vec![commit(1, 0)],
        vec![header(1, 0, 0), commit(2, 0)],
        vec![header(1, 0, 0), header(1, 0, 0)],
        vec![header(2, 0, 0), header(1, 5, 0)],
    ] {
        assert!(matches!(
            read(&lines(entries)),
            Err(FormatError::Misplaced(_))
        ));
    }
}

#[test]
fn removed_and_moved_lines_are_found() {
    let whole = lines(vec![
        header(1, 0, 0),
        commit(1, 0),
        commit(1, 1),
        commit(1, 2),
    ]);
    for tampered in [
        vec![0, 2, 3],
        vec![1, 2, 3],
        vec![0, 2, 1, 3],
        vec![0, 1, 1],
    ] {
        let tampered: Vec<String> = tampered
            .into_iter()
            .map(|line| whole[line].clone())
            .collect();
        assert!(matches!(read(&tampered), Err(FormatError::Chain)));
    }
}

#[test]
fn a_header_of_another_version_is_told_whatever_else_it_holds() {
    let text = r#"{"entry":{"segment":{"format_version":9,"novel":[]}},"digest":""}"#;
    assert!(matches!(
        header_of(text),
        Err(FormatError::Version { found: 9 })
    ));
    let (record, _) = Chain::START.line(commit(1, 0));
    assert!(matches!(
        header_of(record.trim_end()),
        Err(FormatError::Misplaced(_))
    ));
    assert!(matches!(header_of("{"), Err(FormatError::Syntax(_))));
}

proptest! {
    #[test]
    fn records_come_back_to_the_last_bit(loss_sum in any::<f64>(), learning_rate in any::<f64>()) {
        let mut written = record(1, 0);
        written.slots[0].loss_sum = loss_sum;
        written.learning_rate = learning_rate;
        let reader = read(&lines(vec![header(1, 0, 0), Entry::Commit(written)])).unwrap();
        let read = &reader.records[0].0;
        // Every NaN is written as the same word.
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        prop_assert!(same(read.slots[0].loss_sum, loss_sum) && same(read.learning_rate, learning_rate));
    }

    #[test]
    fn no_byte_can_be_changed_unseen(at in 0usize..400, to in 0x20u8..0x7f) {
        let mut tampered = lines(vec![header(1, 0, 0), commit(1, 0)]);
        let mut bytes = tampered[1].clone().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        tampered[1] = String::from_utf8(bytes).unwrap();
        prop_assert!(read(&tampered).is_err(), "{}", tampered[1]);
    }
}
