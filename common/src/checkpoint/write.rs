//! Writes a checkpoint folder.

use std::io::{self, Write};
use std::path::Path;

use super::manifest::{CheckpointMeta, MANIFEST_FILE, Manifest};
use crate::failpoint;
use crate::id::Digest;
use crate::storage::{FolderWriter, StorageError};

/// A checkpoint on its way. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: FolderWriter,
    meta: CheckpointMeta,
}

impl CheckpointWriter {
    /// Starts the checkpoint in `folder`, which [`folder`](super::folder) names. What lies there from before is removed.
    ///
    /// # Errors
    /// If the folder cannot be emptied or created.
    pub fn create(folder: &Path, meta: CheckpointMeta) -> Result<Self, StorageError> {
        let folder = FolderWriter::create(folder, MANIFEST_FILE)?;
        Ok(Self { folder, meta })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// If `write` fails or the disk does not take it.
    pub fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        self.folder.add(name, write)
    }

    /// Writes the manifest, with which the checkpoint is complete.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn finish(self, state_digest: Digest) -> Result<Manifest, StorageError> {
        failpoint::hit("manifest");
        let manifest = Manifest::new(self.meta, state_digest, self.folder.files().to_vec());
        self.folder.finish(manifest.to_json().as_bytes())?;
        Ok(manifest)
    }
}
