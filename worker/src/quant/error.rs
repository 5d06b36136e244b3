//! What can be wrong with a matrix that claims to be NF4.

/// A quantized matrix whose parts do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nf4Error {
    /// The number of packed bytes does not match the shape.
    #[error(
        "{rows}x{cols} NF4 matrix needs {expected} packed bytes, found {found}; the file is truncated or its shape wrong"
    )]
    PackedBytes {
        /// Rows (outputs).
        rows: usize,
        /// Columns (inputs).
        cols: usize,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The number of block magnitudes does not match the shape.
    #[error(
        "{rows}x{cols} NF4 matrix needs {expected} {what}, found {found}; the file is truncated or its block size is not 64"
    )]
    Magnitudes {
        /// Rows (outputs).
        rows: usize,
        /// Columns (inputs).
        cols: usize,
        /// Which array.
        what: &'static str,
        /// Entries that the shape needs.
        expected: usize,
        /// Entries that are there.
        found: usize,
    },
}
