//! State on its way to a checkpoint folder.

use std::path::Path;

use weft_common::checkpoint::{self, CheckpointMeta, InputDigests};
use weft_common::id::Step;
use weft_common::recipe::Recipe;

use super::Trainer;
use crate::agent::{EngineError, ErrorKind, Snapshot, SnapshotFiles, SnapshotMeta};
use crate::checkpoint::{CheckpointError, TrainState, read, write};
use crate::train::fixed_point::FRACTION_BITS;

/// A copy of the state, with what its manifest will say.
struct Pending {
    state: TrainState,
    recipe: Recipe,
    meta: CheckpointMeta,
}

impl Snapshot for Pending {
    fn write(self: Box<Self>, dir: &Path) -> Result<SnapshotFiles, EngineError> {
        let manifest = write(dir, &self.state, &self.recipe, self.meta)?;
        let bytes = manifest.files.iter().map(|file| file.size).sum();
        Ok(SnapshotFiles { bytes })
    }
}

/// Copies the trainer's state. **Cost**: one copy of adapter and optimizer state.
pub(super) fn take(
    trainer: &Trainer,
    meta: &SnapshotMeta,
) -> Result<Box<dyn Snapshot>, EngineError> {
    let state = trainer.state.clone();
    if state.progress.next_step != meta.next_step.0 {
        let message = format!(
            "checkpoint for step {} was asked for, but the state is before step {}",
            meta.next_step, state.progress.next_step
        );
        return Err(internal(message));
    }
    let meta = manifest_meta(&trainer.recipe, trainer.inputs, meta);
    let recipe = trainer.recipe.clone();
    Ok(Box::new(Pending {
        state,
        recipe,
        meta,
    }))
}

/// Replaces the trainer's state by a checkpoint's, if it belongs to the same inputs.
pub(super) fn restore(trainer: &mut Trainer, dir: &Path) -> Result<Step, EngineError> {
    let incomplete = |defect| CheckpointError::Incomplete {
        folder: dir.to_owned(),
        defect,
    };
    let checkpoint = checkpoint::open(dir).map_err(incomplete)?;
    let manifest = &checkpoint.manifest;
    let compatible = manifest.check_compatible(&trainer.inputs, FRACTION_BITS);
    compatible.map_err(CheckpointError::from)?;
    read(&checkpoint, &mut trainer.state)?;
    Ok(Step(trainer.state.progress.next_step))
}

fn manifest_meta(recipe: &Recipe, inputs: InputDigests, meta: &SnapshotMeta) -> CheckpointMeta {
    CheckpointMeta {
        job: meta.membership.job.clone(),
        step: meta.next_step,
        epoch: meta.membership.epoch,
        term: meta.membership.term,
        inputs,
        fixed_point_bits: FRACTION_BITS,
        seed: recipe.training.seed,
        world_size: meta.world,
    }
}

/// A call that the protocol does not allow.
pub(super) fn internal(message: String) -> EngineError {
    EngineError {
        kind: ErrorKind::Internal,
        message,
    }
}

impl From<CheckpointError> for EngineError {
    fn from(error: CheckpointError) -> Self {
        let kind = match error {
            CheckpointError::Storage(_) => ErrorKind::Storage,
            CheckpointError::Incomplete { .. }
            | CheckpointError::Incompatible(_)
            | CheckpointError::Tensors { .. }
            | CheckpointError::NoTensor { .. }
            | CheckpointError::UnknownTensor { .. }
            | CheckpointError::Mismatch { .. }
            | CheckpointError::Json { .. }
            | CheckpointError::State { .. } => ErrorKind::Checkpoint,
        };
        Self::new(kind, error)
    }
}
