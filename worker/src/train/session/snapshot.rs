//! State on its way to a checkpoint folder.

use std::path::{Path, PathBuf};

use weft_common::checkpoint::{self, CheckpointMeta, Defect, InputDigests};
use weft_common::id::Step;
use weft_common::recipe::Recipe;

use super::{Trainer, as_on};
use crate::agent::{EngineError, ErrorKind, Snapshot, SnapshotFiles, SnapshotMeta, StateCopy};
use crate::checkpoint::{
    CheckpointError, Progress, SharedStore, StateHeader, TrainState, read, take_over, write,
};
use crate::train::Backend;
use crate::train::fixed_point::FRACTION_BITS;
use crate::train::optimizer::AdamW;

/// A copy of the state, with what its manifest will say.
struct Pending {
    state: TrainState,
    recipe: Recipe,
    meta: CheckpointMeta,
    shared: Option<SharedStore>,
}

impl Snapshot for Pending {
    fn header(&self) -> Result<Vec<u8>, EngineError> {
        Ok(StateHeader::of(&self.state, self.meta.clone()).to_bytes())
    }

    fn arrays(&self) -> Vec<&[u8]> {
        self.state.arrays()
    }

    fn write(self: Box<Self>, dir: &Path) -> Result<SnapshotFiles, EngineError> {
        let manifest = write(dir, &self.state, &self.recipe, self.meta)?;
        // The copy of the state is not needed while the store takes its time.
        drop(self.state);
        if let Some(shared) = &self.shared {
            let kept = shared.keep(dir, &manifest);
            kept.map_err(|source| CheckpointError::NotShared {
                folder: dir.to_owned(),
                source,
            })?;
        }
        let bytes = manifest.files.iter().map(|file| file.size).sum();
        Ok(SnapshotFiles { bytes })
    }
}

/// Copies the trainer's state. **Cost**: one copy of adapter and optimizer state.
pub(super) fn take<B: Backend>(
    trainer: &Trainer<B>,
    meta: &SnapshotMeta,
) -> Result<Box<dyn Snapshot>, EngineError> {
    let state = trainer.model.ops().fetch_state(trainer.state())?;
    if state.progress.next_step != meta.next_step.0 {
        let message = format!(
            "checkpoint for step {} was asked for, but the state is before step {}",
            meta.next_step, state.progress.next_step
        );
        return Err(internal(message));
    }
    let meta = manifest_meta(&trainer.recipe, trainer.inputs, meta);
    Ok(Box::new(Pending {
        state,
        recipe: trainer.recipe.clone(),
        meta,
        shared: trainer.shared.clone(),
    }))
}

/// Replaces the trainer's state by a checkpoint's, if it belongs to the same inputs.
pub(super) fn restore<B: Backend>(
    trainer: &mut Trainer<B>,
    dir: &Path,
) -> Result<Step, EngineError> {
    let dir = on_this_machine(trainer.shared.as_ref(), dir)?;
    let checkpoint = checkpoint::open(&dir).map_err(|defect| CheckpointError::Incomplete {
        folder: dir,
        defect,
    })?;
    let manifest = &checkpoint.manifest;
    let compatible = manifest
        .meta
        .check_compatible(&trainer.inputs, FRACTION_BITS);
    compatible.map_err(CheckpointError::from)?;
    let mut state = trainer.model.ops().fetch_state(trainer.state())?;
    read(&checkpoint, &mut state)?;
    place(trainer, state)
}

/// Replaces the trainer's state by a peer's, if it belongs to the same inputs.
pub(super) fn adopt<B: Backend>(
    trainer: &mut Trainer<B>,
    copy: &StateCopy,
) -> Result<Step, EngineError> {
    let header = StateHeader::parse(copy.header())?;
    let compatible = (header.meta).check_compatible(&trainer.inputs, FRACTION_BITS);
    compatible.map_err(CheckpointError::from)?;
    let mut state = blank(trainer);
    take_over(&header, copy.arrays(), &mut state)?;
    place(trainer, state)
}

/// A state of the trainer's widths, to be filled.
fn blank<B: Backend>(trainer: &Trainer<B>) -> TrainState {
    let adapter = trainer.adapter();
    let matrices = adapter.layout().tensors().iter();
    TrainState {
        optimizer: AdamW::new(
            (&trainer.recipe.training).into(),
            matrices.map(|tensor| (tensor.name.clone(), tensor.range())),
        ),
        adapter: adapter.map_ref(|_| vec![0.0; adapter.layout().len()]),
        progress: Progress::default(),
    }
}

/// Replaces the trainer's state.
fn place<B: Backend>(trainer: &mut Trainer<B>, mut state: TrainState) -> Result<Step, EngineError> {
    state.progress = as_on(trainer.model.ops(), state.progress);
    let next_step = Step(state.progress.next_step);
    // The old state makes room for the new one.
    trainer.state = None;
    trainer.state = Some(trainer.model.ops().place_state(state)?);
    Ok(next_step)
}

/// The checkpoint's folder, fetched from the shared store where another machine wrote it.
fn on_this_machine(shared: Option<&SharedStore>, dir: &Path) -> Result<PathBuf, CheckpointError> {
    match shared {
        Some(shared) if !dir.exists() => {
            let fetched = shared.fetch(dir);
            fetched.map_err(|defect| CheckpointError::NotFetched {
                folder: dir.to_owned(),
                defect,
            })
        }
        Some(_) | None => Ok(dir.to_owned()),
    }
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
            CheckpointError::Storage(_)
            | CheckpointError::NotShared { .. }
            | CheckpointError::NotFetched {
                defect: Defect::Store(_),
                ..
            } => ErrorKind::Storage,
            CheckpointError::Incomplete { .. }
            | CheckpointError::NotFetched { .. }
            | CheckpointError::Incompatible(_)
            | CheckpointError::Tensors { .. }
            | CheckpointError::NoTensor { .. }
            | CheckpointError::UnknownTensor { .. }
            | CheckpointError::Mismatch { .. }
            | CheckpointError::Json { .. }
            | CheckpointError::SentSize { .. }
            | CheckpointError::SentState { .. }
            | CheckpointError::State { .. } => ErrorKind::Checkpoint,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use weft_common::recipe::Format;

    use super::*;
    use crate::checkpoint::Progress;
    use crate::lora::Adapter;
    use crate::model::Spec;
    use crate::model::tests_support::toy;
    use crate::train::optimizer::AdamW;

    /// The adapter and 8-bit optimizer state of SmolLM2-135M with rank 16 on all seven linears.
    fn smollm2() -> TrainState {
        let spec = Spec {
            vocab: 49_152,
            hidden: 576,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            ffn: 1536,
            tied_head: true,
            ..toy()
        };
        let text = "{model: {base_model: m}, datasets: [{path: d}], lora: {r: 16}}";
        let recipe = Recipe::parse(text, Format::Yaml).unwrap();
        let adapter = Adapter::new(&spec, &recipe.lora, 1).unwrap();
        let layout = adapter.layout();
        let matrices = layout
            .tensors()
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.range()));
        let optimizer = AdamW::new((&recipe.training).into(), matrices);
        let progress = Progress::default();
        TrainState {
            adapter,
            optimizer,
            progress,
        }
    }

    #[test]
    fn training_of_smollm2_pauses_less_than_50_ms_for_a_checkpoint() {
        let state = smollm2();
        assert_eq!(state.adapter.values().len(), 4_884_480);
        // The fastest of several: a busy machine says nothing about the copy.
        let pause = (0..8).map(|_| {
            let start = Instant::now();
            let copy = std::hint::black_box(state.clone());
            let pause = start.elapsed();
            drop(copy);
            pause
        });
        let fastest = pause.min().unwrap();
        println!("the copy takes {:.1} ms", fastest.as_secs_f64() * 1e3);
        assert!(fastest < Duration::from_millis(50), "{fastest:?}");
    }
}
