//! Committed state from worker to worker: a member serves it, a worker that joins copies it.
//!
//! It goes from memory to memory, because the step in hand waits for it: a header that says what it is, then the bytes of
//! all arrays. The one who joins compares its digest with what the header says, and the coordinator with the members'.

mod copy;
mod receive;
mod serve;
#[cfg(test)]
mod tests;

pub(super) use copy::copy;
pub(super) use serve::{PeerServer, bind};

use std::time::Duration;

/// Large enough that headers do not matter, small enough for any peer's window.
const CHUNK_BYTES: usize = 1 << 20;

/// What may be on its way unread: the round trip of a fast network.
const WINDOW_BYTES: u32 = 16 << 20;

/// How long a connection may stand still once the state has begun to come.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);

/// How long all of it may take, from the first knock to the last byte.
const WHOLE_WITHIN: Duration = Duration::from_secs(300);
