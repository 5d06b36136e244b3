//! A store for tests.

use super::{Store, StoreLimits, StoreUrl};

/// A store in a folder of its own.
pub(crate) fn folder_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Folder(folder.path().join("store"));
    let store = Store::open_with(&url, StoreLimits::default(), &[]).unwrap();
    (folder, store)
}
