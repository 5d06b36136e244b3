//! The whole folder.

use std::fs;
use std::path::Path;

use weft_common::checkpoint::{self, CheckpointMeta, CheckpointWriter, Manifest};
use weft_common::recipe::Recipe;
use weft_common::storage::StorageError;

use super::adapter_config::{ADAPTER_CONFIG_FILE, adapter_config};
use super::adapter_file::{ADAPTER_MODEL_FILE, adapter_model, read_adapter_model};
use super::moments_file::{MOMENTS_FILE, moments, read_moments};
use super::progress_file::{PROGRESS_FILE, progress, read_progress};
use super::{CheckpointError, TrainState};

/// Writes a complete checkpoint at `folder`, the manifest last. **Cost**: a copy of the adapter or of the optimizer's
/// state in memory, whichever is larger.
///
/// # Errors
/// The disk is full or the folder not writable; nothing that counts as a checkpoint is left then.
pub fn write(
    folder: &Path,
    state: &TrainState,
    recipe: &Recipe,
    meta: CheckpointMeta,
) -> Result<Manifest, CheckpointError> {
    let mut writer = CheckpointWriter::create(folder, meta)?;
    writer.add(ADAPTER_MODEL_FILE, |file| {
        file.write_all(&adapter_model(&state.adapter))
    })?;
    writer.add(ADAPTER_CONFIG_FILE, |file| {
        file.write_all(adapter_config(recipe).as_bytes())
    })?;
    writer.add(MOMENTS_FILE, |file| {
        file.write_all(&moments(&state.optimizer))
    })?;
    writer.add(PROGRESS_FILE, |file| {
        file.write_all(progress(&state.progress).as_bytes())
    })?;
    Ok(writer.finish(state.digest())?)
}

/// Replaces `state` by that of a verified checkpoint; `state` says which adapter and optimizer are expected.
///
/// # Errors
/// A file is missing or of another adapter or optimizer, or the state is not what the manifest says; `state`
/// is as before then.
pub fn read(
    checkpoint: &checkpoint::Checkpoint,
    state: &mut TrainState,
) -> Result<(), CheckpointError> {
    let folder = &checkpoint.folder;
    let mut fresh = state.clone();
    let values = read_adapter_model(&bytes(folder, ADAPTER_MODEL_FILE)?, fresh.adapter.layout())?;
    fresh.adapter.values_mut().copy_from_slice(&values);
    fresh.progress = read_progress(&bytes(folder, PROGRESS_FILE)?)?;
    let tensors = read_moments(&bytes(folder, MOMENTS_FILE)?, &fresh.optimizer)?;
    fresh.optimizer.restore(fresh.progress.updates, tensors);
    let (found, expected) = (fresh.digest(), checkpoint.manifest.state_digest);
    if found != expected {
        return Err(CheckpointError::State {
            folder: folder.clone(),
            found,
            expected,
        });
    }
    *state = fresh;
    Ok(())
}

fn bytes(folder: &Path, name: &str) -> Result<Vec<u8>, StorageError> {
    let path = folder.join(name);
    fs::read(&path).map_err(|source| StorageError::new("read", &path, source))
}

#[cfg(test)]
mod tests;
