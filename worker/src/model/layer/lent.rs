//! Matrices that lie where another one does which is not used at the same time.

use crate::ops::{Ops, Sizes};

/// The memory of one matrix, given out from its beginning to others. What does not fit gets memory of its own.
#[derive(Debug, Clone, Copy)]
pub struct Lent {
    rows: usize,
    bytes: u64,
    taken: u64,
}

impl Lent {
    /// That of a matrix of `rows` rows of `width`.
    pub fn of(ops: &impl Sizes, rows: usize, width: usize) -> Self {
        Self {
            rows,
            bytes: ops.lendable_bytes(rows, width),
            taken: 0,
        }
    }

    /// Where matrices of these widths side by side begin, if they fit.
    fn take(&mut self, ops: &impl Sizes, widths: &[usize]) -> Option<u64> {
        let offset = self.taken;
        let end = offset + ops.matrix_bytes(self.rows, widths);
        (end <= self.bytes).then(|| {
            self.taken = end;
            offset
        })
    }

    /// Matrices as [`Ops::alloc_joined`] makes them, in `lender` where they fit.
    pub fn alloc<O: Ops, const N: usize>(
        &mut self,
        ops: &O,
        lender: &O::Buf,
        widths: [usize; N],
    ) -> [O::Buf; N] {
        match self.take(ops, &widths) {
            Some(offset) => ops.alloc_within((lender, offset), self.rows, widths),
            None => ops.alloc_joined(self.rows, widths),
        }
    }

    /// Bytes of their own that such matrices take.
    pub fn bytes_of(&mut self, ops: &impl Sizes, widths: &[usize]) -> u64 {
        match self.take(ops, widths) {
            Some(_) => 0,
            None => ops.matrix_bytes(self.rows, widths),
        }
    }
}
