//! Slices and limits, counted in clean rows.

use std::ops::{ControlFlow, Range};

use super::clean::{CleanTally, CleanVisitor, clean};
use crate::data::DataError;
use crate::recipe::{DatasetSection, SliceRange};

/// Calls `visit` with the rows of a dataset that the recipe selects, in its order, until it breaks off.
///
/// **Cost**: one pass over the file; with slices one more for each, so that no row is held back in memory.
pub(in crate::data) fn select(
    section: &DatasetSection,
    visit: &mut CleanVisitor<'_>,
) -> Result<CleanTally, DataError> {
    let mut left = section.limit.unwrap_or(u64::MAX);
    if section.slices.is_empty() {
        return take(section, 0..u64::MAX, &mut left, visit).map(|(tally, _)| tally);
    }
    let mut rows = 0;
    let tally = clean(section, &mut |_, _, _| {
        rows += 1;
        ControlFlow::Continue(())
    })?;
    for slice in &section.slices {
        let (_, flow) = take(section, resolve(*slice, rows), &mut left, visit)?;
        if flow.is_break() {
            break;
        }
    }
    Ok(tally)
}

/// Visits the clean rows of `range`, at most `left` of them.
fn take(
    section: &DatasetSection,
    range: Range<u64>,
    left: &mut u64,
    visit: &mut CleanVisitor<'_>,
) -> Result<(CleanTally, ControlFlow<()>), DataError> {
    let mut index = 0;
    let mut flow = ControlFlow::Continue(());
    let tally = clean(section, &mut |row, layout, position| {
        if index >= range.end || *left == 0 {
            return ControlFlow::Break(());
        }
        if range.contains(&index) {
            *left -= 1;
            flow = visit(row, layout, position);
        }
        index += 1;
        flow
    })?;
    Ok((tally, flow))
}

/// The rows that Python's `[start:end]` takes of `rows`.
fn resolve(SliceRange(start, end): SliceRange, rows: u64) -> Range<u64> {
    let bound = |bound: i64| match u64::try_from(bound) {
        Ok(from_start) => from_start.min(rows),
        Err(_) => rows.saturating_sub(bound.unsigned_abs()),
    };
    start.map_or(0, bound)..end.map_or(rows, bound)
}
