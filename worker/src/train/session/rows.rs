//! Where a trainer reads its rows.

use weft_common::data::Row;

/// Prepared rows by number.
pub trait RowSource: Send {
    /// Row `index`.
    ///
    /// # Panics
    /// If there is no such row; the step plan names only rows that exist.
    fn row(&self, index: u32) -> Row;
}

impl RowSource for Vec<Row> {
    fn row(&self, index: u32) -> Row {
        self[index as usize].clone()
    }
}
