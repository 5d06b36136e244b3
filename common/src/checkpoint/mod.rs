//! The checkpoint folder: which files it has and when it counts as complete.
//!
//! ```text
//! checkpoints/
//!   0000000050/                    the step that training goes on with: so many updates are in the state
//!     adapter_model.safetensors    written by the worker, like all files but the manifest
//!     adapter_config.json
//!     optimizer.safetensors
//!     state.json
//!     MANIFEST.json                written last: sizes and digests of the others, and what the state belongs to
//! ```
//!
//! A folder without a manifest was never finished. A folder whose files do not have the sizes and digests of its
//! manifest is damaged. Both are passed over with a warning, and the one before is taken. [`SharedCheckpoints`] keeps
//! the same files in a [store](crate::store).

mod age;
mod find;
mod manifest;
mod retain;
mod retention;
mod shared;
mod write;

pub use age::{AgeAlarm, CheckpointAge};
pub use find::{Checkpoint, Defect, Newest, Skipped, manifests, newest_complete, open};
pub use manifest::{
    CheckpointMeta, Difference, Incompatible, InputDigests, MANIFEST_FILE, Manifest, ManifestError,
};
pub use retain::retain;
pub use shared::{SharedCheckpoints, UploadError};
pub use write::CheckpointWriter;

use std::path::{Path, PathBuf};

use crate::id::Step;

/// The folder of the checkpoint at `step` under `root`.
#[must_use]
pub fn folder(root: &Path, step: Step) -> PathBuf {
    root.join(format!("{:010}", step.0))
}

/// The step of a checkpoint's folder, by its name.
#[must_use]
pub fn folder_step(folder: &Path) -> Option<Step> {
    step_of(folder.file_name()?.to_str()?)
}

/// The step that a folder's name says, where it is the name of a checkpoint.
fn step_of(name: &str) -> Option<Step> {
    let digits = name.len() >= 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    let step = Step(name.parse().ok().filter(|_| digits)?);
    (format!("{:010}", step.0) == name).then_some(step)
}
