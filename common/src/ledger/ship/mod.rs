//! The ledger on its way to a shared store, so that a coordinator without its disk can go on.
//!
//! ```text
//! <job>/ledger/
//!   0000000001.fence                                     as on the disk
//!   0000000001-000000.jsonl                              a closed segment, whole
//!   0000000001-000001.jsonl.000000000000-000000004096    the growing one, in stretches of whole lines
//!   0000000001-000001.jsonl.000000004096-000000009170
//! ```
//!
//! Every object is created once and never changed. [`plan`] decides what to send, from what lies here and there;
//! [`LedgerShipper`] does so again and again on a thread of its own. [`fetch_ledger`] brings everything back.

mod fence;
mod fetch;
mod plan;
mod shipper;

pub use fence::FenceSeen;
pub use fetch::{FetchError, fetch_ledger};
pub use shipper::{LedgerShipper, ShipError, Shipment};
