//! The time of day, for what people read; nothing is decided by it.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
