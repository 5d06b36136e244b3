//! A state as it goes from worker to worker: a header, and the bytes of its arrays one after another.

use serde::{Deserialize, Serialize};
use weft_common::checkpoint::CheckpointMeta;
use weft_common::id::Digest;

use super::{CheckpointError, Progress, TrainState};

/// What a state says of itself before its arrays come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateHeader {
    /// What it belongs to.
    pub meta: CheckpointMeta,
    /// Where it stands.
    pub progress: Progress,
    /// [`TrainState::digest`].
    pub state_digest: Digest,
}

impl StateHeader {
    /// That of `state`. **Cost**: reads the state once, on all threads.
    #[must_use]
    pub fn of(state: &TrainState, meta: CheckpointMeta) -> Self {
        Self {
            meta,
            progress: state.progress,
            state_digest: state.digest(),
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a header holds only numbers and texts")
    }

    /// What [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// It is no header.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        serde_json::from_slice(bytes).map_err(|source| CheckpointError::Json {
            file: "a state's header",
            source,
        })
    }
}

/// Makes `state`, which says which adapter and optimizer are expected, that of a peer.
///
/// # Errors
/// The arrays have other sizes than this adapter and optimizer, or are not what the header says; `state` is of no use then.
pub fn take_over(
    header: &StateHeader,
    mut arrays: &[u8],
    state: &mut TrainState,
) -> Result<(), CheckpointError> {
    let expected: usize = state.arrays().iter().map(|array| array.len()).sum();
    if arrays.len() != expected {
        return Err(CheckpointError::SentSize {
            found: arrays.len(),
            expected,
        });
    }
    for array in state.arrays_mut() {
        let (head, tail) = arrays.split_at(array.len());
        array.copy_from_slice(head);
        arrays = tail;
    }
    state.progress = header.progress;
    state.optimizer.set_updates(header.progress.updates);
    let (found, expected) = (state.digest(), header.state_digest);
    if found != expected {
        return Err(CheckpointError::SentState { found, expected });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
