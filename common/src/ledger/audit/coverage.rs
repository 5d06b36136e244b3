//! How often each row counted, by the ledger's own account.

use std::collections::HashMap;

use super::super::read::Ledger;
use super::super::record::CommitRecord;
use super::{DataEpoch, Evidence, Findings};
use crate::id::Step;

/// The rows of every pass over the data.
#[derive(Debug)]
pub(super) struct Coverage<'a> {
    ledger: &'a Ledger,
    /// Rows of the dataset; where it is not there, those of the first complete pass.
    rows: Option<u64>,
    pub(super) epochs: Vec<DataEpoch>,
}

/// A pass over the data that is being counted.
struct Pass {
    data_epoch: u32,
    /// Place of its last record.
    last: usize,
    steps: u64,
    /// The step in which each row counted.
    counted: HashMap<u32, Step>,
    /// Rows that counted again.
    repeated: u64,
}

impl<'a> Coverage<'a> {
    pub(super) fn of(evidence: &Evidence<'a>, findings: &mut Findings) -> Self {
        let ledger = evidence.ledger;
        let planner = evidence.planned.as_ref().map(|planned| planned.planner);
        let mut coverage = Self {
            ledger,
            rows: planner.map(|planner| u64::from(planner.rows())),
            epochs: Vec::new(),
        };
        let mut pass: Option<Pass> = None;
        for (index, record) in ledger.records.iter().enumerate() {
            if let Some(done) = pass.take_if(|pass| pass.data_epoch != record.data_epoch) {
                if record.data_epoch != done.data_epoch.wrapping_add(1) {
                    let what = format!(
                        "step {} is of data epoch {}, the step before of {}",
                        record.step.next(),
                        record.data_epoch,
                        done.data_epoch
                    );
                    findings.at(ledger.place(index), what);
                }
                coverage.close(done, true, findings);
            }
            let pass = pass.get_or_insert_with(|| Pass::new(record.data_epoch));
            pass.count(ledger, index, record, findings);
        }
        if let Some(last) = pass {
            let whole = planner.is_some_and(|planner| last.steps == planner.steps_per_epoch());
            coverage.close(last, whole, findings);
        }
        coverage
    }

    pub(super) const fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// Ends a pass; `over` where it came to its end.
    fn close(&mut self, pass: Pass, over: bool, findings: &mut Findings) {
        // A ledger that begins in the middle of a pass cannot show the rest of it.
        let from_start = !self.epochs.is_empty()
            || self
                .ledger
                .records
                .first()
                .is_some_and(|first| first.step == Step(0));
        let complete = over && from_start;
        let distinct = pass.counted.len() as u64;
        let place = self.ledger.place(pass.last);
        if complete {
            let highest = pass
                .counted
                .keys()
                .max()
                .map_or(0, |row| u64::from(*row) + 1);
            let rows = *self.rows.get_or_insert(highest);
            if highest > rows {
                let what = format!(
                    "row {} counted, but the dataset has {rows} rows",
                    highest - 1
                );
                findings.at(place, what);
            } else if distinct < rows {
                let missing = (0..)
                    .find(|row| !pass.counted.contains_key(row))
                    .unwrap_or(0);
                let what = format!(
                    "data epoch {} ends here, but {} of its {rows} rows never counted, the first of them row {missing}",
                    pass.data_epoch,
                    rows - distinct
                );
                findings.at(place, what);
            }
        }
        self.epochs.push(DataEpoch {
            data_epoch: pass.data_epoch,
            steps: pass.steps,
            rows: distinct,
            repeated: pass.repeated,
            complete,
        });
    }
}

impl Pass {
    fn new(data_epoch: u32) -> Self {
        Self {
            data_epoch,
            last: 0,
            steps: 0,
            counted: HashMap::new(),
            repeated: 0,
        }
    }

    fn count(
        &mut self,
        ledger: &Ledger,
        index: usize,
        record: &CommitRecord,
        findings: &mut Findings,
    ) {
        self.last = index;
        self.steps += 1;
        for row in record.slots.iter().flat_map(|slot| &slot.rows) {
            let Some(earlier) = self.counted.insert(*row, record.step) else {
                continue;
            };
            self.repeated += 1;
            let what = format!(
                "row {row} counts in step {} and counted in step {} of the same data epoch",
                record.step.next(),
                earlier.next()
            );
            findings.at(ledger.place(index), what);
        }
    }
}
