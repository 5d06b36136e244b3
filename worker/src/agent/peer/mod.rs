//! Committed state from worker to worker: a member serves it, a worker that joins copies it.
//!
//! The files are those of a checkpoint, `MANIFEST.json` last, so that the one who joins restores them as one and finds
//! whatever is missing or damaged.

mod copy;
mod files;
mod serve;
#[cfg(test)]
mod tests;

pub(super) use copy::copy;
pub(super) use serve::{PeerServer, bind};

use std::time::Duration;

use tempfile::TempDir;

/// Large enough that headers do not matter, small enough for any peer's window.
const CHUNK_BYTES: usize = 1 << 20;

/// How long a connection may stand still once the state has begun to come.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);

/// How long all of it may take, from the first knock to the last byte.
const WHOLE_WITHIN: Duration = Duration::from_secs(300);

/// A folder below `cache_dir` for one state on its way; removed when dropped.
fn temporary(cache_dir: &std::path::Path) -> std::io::Result<TempDir> {
    std::fs::create_dir_all(cache_dir)?;
    tempfile::Builder::new()
        .prefix("state-")
        .tempdir_in(cache_dir)
}
