//! A position in the file that never reads past its end.

use super::error::{Checked, Problem};

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.position as u64
    }

    pub(super) fn file_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    pub(super) fn take(&mut self, len: u64, what: &str) -> Checked<&'a [u8]> {
        self.expect_left(len, what)?;
        let start = self.position;
        self.position += usize::try_from(len).expect("at most the bytes that are left");
        Ok(&self.bytes[start..self.position])
    }

    /// Refuses a count whose elements, at `bytes_each` at the least, cannot fit into the rest of the file.
    pub(super) fn expect_count(&self, count: u64, bytes_each: u64, what: &str) -> Checked<usize> {
        self.expect_left(count.saturating_mul(bytes_each), what)?;
        Ok(usize::try_from(count).expect("at most the bytes that are left"))
    }

    fn expect_left(&self, needed: u64, what: &str) -> Checked<()> {
        if needed <= self.left() {
            return Ok(());
        }
        Err(Box::new(Problem::Truncated {
            what: what.to_owned(),
            offset: self.offset(),
            needed,
            left: self.left(),
        }))
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Checked<[u8; N]> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("exactly N bytes were taken"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Checked<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Checked<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(super) fn string(&mut self, what: &str) -> Checked<String> {
        let start = self.offset();
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|error| corrupt(what, start, format!("text is not UTF-8: {error}")))
    }
}

pub(super) fn corrupt(what: &str, offset: u64, detail: String) -> Box<Problem> {
    Box::new(Problem::Corrupt {
        what: what.to_owned(),
        offset,
        detail,
    })
}
