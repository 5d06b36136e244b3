//! Files that are either complete or absent.
//!
//! [`write_atomic`] puts one file in place in one move: a temporary file beside it, its bytes on the disk, a rename, the
//! folder on the disk. [`FolderWriter`] does the same for a folder whose manifest is written last: without a manifest
//! the folder counts as absent.

mod atomic;
mod error;
mod folder;

pub use atomic::{create_folder, sync_folder, write_atomic, write_atomic_with};
pub use error::{StorageError, StorageFault};
pub use folder::{FileEntry, FolderWriter};
pub(crate) use folder::{move_folder, remove_folder};
