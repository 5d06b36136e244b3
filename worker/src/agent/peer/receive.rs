//! A state as it arrives.

use weft_proto::v1::StateChunk;

use crate::agent::order::StateCopy;

/// Far more than a header has.
const MOST_HEADER_BYTES: usize = 1 << 20;

/// Gathers the pieces of a state, within bounds.
#[derive(Debug)]
pub(super) struct Receiving {
    limit_bytes: u64,
    header: Option<Vec<u8>>,
    total: usize,
    arrays: Vec<u8>,
}

impl Receiving {
    /// Nothing yet.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            header: None,
            total: 0,
            arrays: Vec::new(),
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// It is no piece of a state, or of one that is larger than the limit or than it said.
    pub(super) fn take(&mut self, chunk: &StateChunk) -> Result<(), String> {
        if self.header.is_none() {
            return self.begin(chunk);
        }
        let bytes = self.arrays.len() + chunk.data.len();
        if bytes > self.total {
            return Err(format!(
                "it goes on after the {} bytes that it said",
                self.total
            ));
        }
        self.arrays.extend_from_slice(&chunk.data);
        Ok(())
    }

    fn begin(&mut self, chunk: &StateChunk) -> Result<(), String> {
        if chunk.total_bytes > self.limit_bytes {
            return Err(format!(
                "it has {} bytes; {} are the most that a state of this job can have",
                chunk.total_bytes, self.limit_bytes
            ));
        }
        if chunk.header.len() > MOST_HEADER_BYTES || !chunk.data.is_empty() {
            return Err(format!(
                "its first piece is no header: it has {} and {} bytes",
                chunk.header.len(),
                chunk.data.len()
            ));
        }
        let too_much = || format!("no memory for its {} bytes", chunk.total_bytes);
        self.total = usize::try_from(chunk.total_bytes).map_err(|_| too_much())?;
        let room = self.arrays.try_reserve_exact(self.total);
        room.map_err(|_| too_much())?;
        self.header = Some(chunk.header.to_vec());
        Ok(())
    }

    /// All has come.
    ///
    /// # Errors
    /// It has not.
    pub(super) fn finish(self) -> Result<StateCopy, String> {
        let (come, total) = (self.arrays.len(), self.total);
        match self.header {
            Some(header) if come == total => Ok(StateCopy::new(header, self.arrays)),
            Some(_) => Err(format!("it ended after {come} of {total} bytes")),
            None => Err("it ended before it began".to_owned()),
        }
    }
}
