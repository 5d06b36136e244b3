//! One job's training on one worker: what the agent drives through [`Engine`](crate::agent::Engine).
//!
//! ```text
//! compute_slot: rows → PackedBatch → Pass ──layer gradients──▶ Accumulator (integers)
//! staged:       the same into a second one, which is added to the first or forgotten
//! reduce:       Accumulator ──bucket by bucket, through the collective──▶ gradient (f32), digest
//! apply:        norm → clip → AdamW → adapter;  the step is over, the accumulator empty
//! ```
//!
//! The accumulated integers do not depend on which worker computed which slot, and everything after the reduction is a
//! function of them, so that all members hold the same bits at every step.

mod engine;
mod factory;
mod open;
mod rows;
mod snapshot;
mod staging;

use weft_common::checkpoint::InputDigests;
use weft_common::plan::LrSchedule;
use weft_common::recipe::Recipe;

use self::staging::Staging;
use super::accumulator::{Accumulator, ReducedSum};
use super::optimizer::AdamW;
use super::{MemoryPlan, Pass};
use crate::checkpoint::{Progress, SharedStore, TrainState};
use crate::lora::{Adapter, LoraError};
use crate::model::{Model, ModelError, ModelWeights, Spec};
use crate::ops::Cpu;

pub use factory::engine_factory;
pub use open::{Dataset, open};
pub use rows::RowSource;

/// What `use_gradient_checkpointing: auto` lets activations take on a CPU: small enough for a laptop beside its user's
/// other work; more would save at most the recomputation, a quarter of the time.
const AUTO_ACTIVATION_BYTES: u64 = 384 << 20;

/// What a trainer is made from.
pub struct TrainerParts {
    /// The recipe.
    pub recipe: Recipe,
    /// Optimizer steps of the whole job.
    pub total_steps: u64,
    /// Tokens of the largest slot that will come.
    pub largest_slot_tokens: usize,
    /// Digests of everything that the result depends on.
    pub inputs: InputDigests,
    /// The base model's dimensions.
    pub spec: Spec,
    /// The base model.
    pub weights: ModelWeights,
    /// The prepared rows.
    pub rows: Box<dyn RowSource>,
    /// The device for people.
    pub device: String,
}

/// A model and an adapter that do not go together.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The base model is inconsistent.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The adapter cannot be laid out.
    #[error(transparent)]
    Lora(#[from] LoraError),
}

/// One job's model, adapter, optimizer and accumulator on this machine's CPU.
pub struct Trainer {
    recipe: Recipe,
    inputs: InputDigests,
    device: String,
    base_bytes: u64,
    activation_bytes: u64,
    schedule: LrSchedule,
    rows: Box<dyn RowSource>,
    model: Model<Cpu>,
    pass: Pass<Cpu>,
    state: TrainState,
    accumulator: Accumulator,
    staging: Staging,
    /// The reduced gradient; of use once `summed` is there.
    grads: Vec<f32>,
    summed: Option<ReducedSum>,
    /// Where checkpoints go beside the disk.
    shared: Option<SharedStore>,
}

impl Trainer {
    /// A trainer before its first step.
    ///
    /// # Errors
    /// Weights that do not fit the dimensions, or an adapter that does not fit the model.
    pub fn new(parts: TrainerParts) -> Result<Self, TrainerError> {
        let TrainerParts { recipe, spec, .. } = parts;
        let adapter = Adapter::new(&spec, &recipe.lora, recipe.adapter_seed())?;
        let layout = adapter.layout();
        let matrices = layout
            .tensors()
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.range()));
        let optimizer = AdamW::new((&recipe.training).into(), matrices);
        let shape = (parts.largest_slot_tokens, layout.max_rank());
        let checkpointing = recipe.lora.use_gradient_checkpointing;
        let plan = MemoryPlan::choose(&spec, checkpointing, shape, AUTO_ACTIVATION_BYTES);
        let len = layout.len();
        Ok(Self {
            inputs: parts.inputs,
            device: parts.device,
            base_bytes: parts.weights.bytes() as u64,
            activation_bytes: plan.bytes(&spec, shape.0, shape.1),
            schedule: LrSchedule::new(&recipe.training, parts.total_steps),
            rows: parts.rows,
            model: Model::new(Cpu::default(), spec, parts.weights)?,
            pass: Pass::new(plan),
            state: TrainState {
                adapter,
                optimizer,
                progress: Progress::default(),
            },
            accumulator: Accumulator::new(len),
            staging: Staging::new(len),
            grads: vec![0.0; len],
            summed: None,
            shared: None,
            recipe,
        })
    }

    /// Keeps checkpoints in a shared store as well, and restores from there what this machine lacks.
    #[must_use]
    pub fn with_store(mut self, shared: Option<SharedStore>) -> Self {
        self.shared = shared;
        self
    }

    /// The adapter as it is now.
    #[must_use]
    pub fn adapter(&self) -> &Adapter {
        &self.state.adapter
    }
}

#[cfg(test)]
mod tests;
