//! The append-only record of committed steps.
//!
//! ```text
//! ledger/
//!   0000000001.fence             a term puts up its fence before it reads what is there
//!   0000000001-000000.jsonl      <term>-<sequence>; created once, appended to, never changed
//!   0000000002.fence
//!   0000000002-000000.jsonl      a new incarnation of the coordinator goes on here
//! ```
//!
//! A step is committed when its record is on the disk and no later term has put up its fence
//! ([`LedgerWriter::append`] returns); only then may anyone be told. So of two coordinators on one ledger the older
//! commits nothing: a record is either durable before the fence, and the newer one reads it, or it is never reported.
//! All of them must see one folder, as they do on one machine; a network share that keeps old listings does not do.
//!
//! Each line carries a digest over itself and the line before, so that a line that was changed, removed, added or moved
//! is found ([`read`]). A line that a crash cut short was never committed: it is reported and left out. So is what a
//! coordinator wrote before it found out that it was fenced: each segment names the end that it goes on from.
//!
//! Where state was lost, the steps after the last checkpoint are computed again, although they are in the ledger: a
//! segment says so, and its records take the place of the earlier ones. As the plan decides everything, they hold the
//! same gradients.

pub mod audit;
mod error;
mod folder;
mod format;
mod number;
mod read;
mod record;
mod ship;
mod trace;
mod write;

pub use error::LedgerError;
pub use format::FormatError;
pub use read::{FencedLines, Ledger, LedgerPlace, TornLine, job_of, newest_term, read};
pub use record::{CommitRecord, SlotRecord, Update};
pub use ship::{FenceSeen, FetchError, LedgerShipper, ShipError, Shipment, fetch_ledger};
pub use write::LedgerWriter;
