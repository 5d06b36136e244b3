//! Storage that several machines share: a folder (`file://`) or a bucket (`s3://`).
//!
//! [`StoreUrl`] says where. [`Store`] reads and writes there: each call blocks its thread until it is done, has a
//! deadline, and is tried again with growing pauses for as long as [`StoreLimits`] say. Errors name what was tried, where,
//! why it failed and what to do. [`claim`] makes sure that of several coordinators only the newest goes on.
//!
//! ```text
//! <store>/<job>/
//!   checkpoints/0000000050/…     as in an output folder, MANIFEST.json last   (checkpoint::shared)
//!   ledger/…                     segments, and parts of the growing one       (ledger::ship)
//!   terms/0000000001             one object a coordinator that ever started
//! ```

mod address;
mod backend;
mod client;
mod error;
mod fence;
mod limits;
mod retry;
#[cfg(test)]
pub(crate) mod testing;
mod transport;

pub use address::{StoreUrl, StoreUrlError};
pub use client::{Created, Creation, Object, Store};
pub use error::{StoreError, StoreFault};
pub use fence::{FenceError, claim, newest_term, still_newest};
pub use limits::StoreLimits;
