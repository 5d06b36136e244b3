//! `state.json`: where training stands.

use super::{CheckpointError, Progress};

pub(super) const PROGRESS_FILE: &str = "state.json";

pub(super) fn progress(progress: &Progress) -> String {
    let text = serde_json::to_string_pretty(progress).expect("progress holds only numbers");
    text + "\n"
}

pub(super) fn read_progress(bytes: &[u8]) -> Result<Progress, CheckpointError> {
    serde_json::from_slice(bytes).map_err(|source| CheckpointError::Json {
        file: PROGRESS_FILE,
        source,
    })
}
