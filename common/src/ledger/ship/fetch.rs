//! The ledger back from the store.

use std::path::{Path, PathBuf};

use super::plan::{Shipped, Stretch, cover, inventory, stretch_name};
use super::shipper::remote;
use crate::id::JobId;
use crate::ledger::folder::segments;
use crate::ledger::{Ledger, LedgerError, read};
use crate::storage::{StorageError, create_folder, write_atomic};
use crate::store::{Store, StoreError};

/// Why a ledger could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store does not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk does not take it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What came breaks the ledger's rules.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Something between two stretches is missing.
    #[error(
        "{segment} in the store lacks bytes from {from} on, though later ones are there; restore them from a copy of the store"
    )]
    Gap {
        /// The segment's address.
        segment: String,
        /// The first byte that is missing.
        from: u64,
    },
    /// The folder has a ledger already.
    #[error("{} holds a ledger already; fetch into an empty folder", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
}

/// Fetches the ledger of `job` into `folder`, and checks it. A job without one gives an empty ledger.
///
/// # Errors
/// If `folder` has a ledger already, the store does not give everything, or what it gives breaks the ledger's rules.
pub fn fetch_ledger(store: &Store, job: &JobId, folder: &Path) -> Result<Ledger, FetchError> {
    create_folder(folder)?;
    if !segments(folder)?.is_empty() {
        let folder = folder.to_owned();
        return Err(FetchError::NotEmpty { folder });
    }
    let inventory = inventory(&store.list(&remote(job))?);
    for fence in &inventory.fences {
        write_atomic(&folder.join(fence), &[])?;
    }
    for (segment, shipped) in &inventory.segments {
        let bytes = stored(store, &format!("{}/{segment}", remote(job)), shipped)?;
        write_atomic(&folder.join(segment), &bytes)?;
    }
    Ok(read(folder)?)
}

/// What the store has of one segment.
pub(super) fn stored(
    store: &Store,
    segment: &str,
    shipped: &Shipped,
) -> Result<Vec<u8>, FetchError> {
    match shipped.whole {
        Some(_) => object(store, segment),
        None => joined(store, segment, shipped),
    }
}

fn joined(store: &Store, segment: &str, shipped: &Shipped) -> Result<Vec<u8>, FetchError> {
    let cover = cover(&shipped.stretches);
    let from = cover.last().map_or(0, |last| last.end);
    if shipped.stretches.iter().any(|stretch| stretch.end > from) {
        let segment = store.address(segment);
        return Err(FetchError::Gap { segment, from });
    }
    let mut bytes = Vec::new();
    for stretch in cover {
        let Stretch { start, end } = stretch;
        let part = object(store, &stretch_name(segment, stretch))?;
        let known = bytes.len() as u64 - start;
        let Some(new) = part
            .get(known as usize..)
            .filter(|_| part.len() as u64 == end - start)
        else {
            let segment = store.address(segment);
            return Err(FetchError::Gap {
                segment,
                from: start,
            });
        };
        bytes.extend_from_slice(new);
    }
    Ok(bytes)
}

fn object(store: &Store, name: &str) -> Result<Vec<u8>, FetchError> {
    let found = store.get(name)?;
    found.ok_or_else(|| FetchError::Gap {
        segment: store.address(name),
        from: 0,
    })
}
