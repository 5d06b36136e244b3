//! Helpers for the tests that drive weft from outside: the real binary, in folders of its own.

pub mod cluster;
pub mod disk;
pub mod files;
pub mod hub;
pub mod namespace;
pub mod process;
pub mod quickstart;
pub mod s3;
pub mod sim;

use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.unwrap_or(Path::new("/")).to_owned()
}
