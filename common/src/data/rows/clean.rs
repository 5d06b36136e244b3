//! Rows with the recipe's columns, none empty, none twice.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use super::RowLayout;
use super::layout::is_empty;
use crate::data::DataError;
use crate::data::source::{self, RawRow};
use crate::id::Digest;
use crate::recipe::DatasetSection;

/// What became of a file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::data) struct CleanTally {
    /// Rows in the file, as far as it was read.
    pub(in crate::data) read: u64,
    /// Rows left out because a field that they need says nothing.
    pub(in crate::data) empty: u64,
    /// Rows left out because they repeat an earlier one.
    pub(in crate::data) duplicate: u64,
}

/// Takes a clean row, how it is read, and how many bytes of the file have been read.
pub(super) type CleanVisitor<'a> = dyn FnMut(RawRow, &RowLayout, u64) -> ControlFlow<()> + 'a;

/// Calls `visit` with every clean row of a dataset's file until it breaks off.
pub(super) fn clean(
    section: &DatasetSection,
    visit: &mut CleanVisitor<'_>,
) -> Result<CleanTally, DataError> {
    let mut cleaner = Cleaner {
        section,
        layout: None,
        seen: HashSet::new(),
        tally: CleanTally::default(),
    };
    let mut failure = None;
    let mut visit_raw = |row: RawRow, position: u64| match cleaner.admit(row) {
        Ok(Some((row, layout))) => visit(row, layout, position),
        Ok(None) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    };
    source::read(Path::new(&section.path), &mut visit_raw)?;
    failure.map_or(Ok(cleaner.tally), Err)
}

struct Cleaner<'a> {
    section: &'a DatasetSection,
    layout: Option<RowLayout>,
    /// Digests of rows already admitted, cut to 128 bits: enough for any number of rows that fits on a disk.
    seen: HashSet<[u8; 16]>,
    tally: CleanTally,
}

impl Cleaner<'_> {
    /// The row as it goes on, or `None` if it is left out.
    fn admit(&mut self, row: RawRow) -> Result<Option<(RawRow, &RowLayout)>, DataError> {
        self.tally.read += 1;
        let row = with_columns(self.section, row)?;
        if self.layout.is_none() {
            self.layout = Some(RowLayout::new(self.section, &row)?);
        }
        let layout = self.layout.as_ref().expect("decided by the first row");
        if layout
            .required()
            .iter()
            .any(|column| is_empty(row.get(*column)))
        {
            self.tally.empty += 1;
            return Ok(None);
        }
        if self.section.drop_duplicates && !self.seen.insert(identity(layout, &row)) {
            self.tally.duplicate += 1;
            return Ok(None);
        }
        Ok(Some((row, layout)))
    }
}

/// Drops, renames and adds columns.
fn with_columns(section: &DatasetSection, row: RawRow) -> Result<RawRow, DataError> {
    let mut out = RawRow::with_capacity(row.len() + 1);
    for (name, value) in row {
        if section.drop_columns.contains(&name) {
            continue;
        }
        let new_name = section.columns.get(&name).unwrap_or(&name);
        if out.contains_key(new_name) {
            return Err(DataError::RenameCollides {
                path: section.path.clone().into(),
                from: name.clone(),
                to: new_name.clone(),
            });
        }
        out.insert(new_name.clone(), value);
    }
    if let Some(instruction) = &section.instruction {
        out.insert("instruction".to_owned(), instruction.clone().into());
    }
    Ok(out)
}

fn identity(layout: &RowLayout, row: &RawRow) -> [u8; 16] {
    let cells = layout
        .used()
        .into_iter()
        .map(|column| row.get(column).unwrap_or(&Value::Null).clone());
    let text = Value::Array(cells.collect()).to_string();
    let digest = Digest::of(text.as_bytes()).0;
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}
