//! The append-only record of committed steps.
//!
//! ```text
//! ledger/
//!   0000000001-000000.jsonl      <term>-<sequence>; created once, appended to, never changed
//!   0000000002-000000.jsonl      a new incarnation of the coordinator goes on here
//! ```
//!
//! A step is committed when its record is on the disk ([`LedgerWriter::append`] returns); only then may anyone be told.
//! Each line carries a digest over itself and the line before, so that a line that was changed, removed, added or moved
//! is found ([`read`]). A line that a crash cut short was never committed: it is reported and left out.
//!
//! A run that goes on from a checkpoint computes the steps after it again, although they are in the ledger: its segment
//! says so, and its records take the place of the earlier ones. As the plan decides everything, they hold the same
//! gradients.

mod format;
mod number;
mod read;
mod record;
mod write;

pub use format::FormatError;
pub use read::{Ledger, LedgerError, TornLine, read};
pub use record::{CommitRecord, SlotRecord, Update};
pub use write::LedgerWriter;
