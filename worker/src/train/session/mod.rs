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

mod cuda;
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
use super::accumulator::ReducedSum;
use super::optimizer::AdamW;
use super::room::{self, NoRoom};
use super::{Backend, MemoryPlan, Pass, PassShape};
use crate::checkpoint::{Progress, SharedStore, TrainState};
use crate::lora::{Adapter, LoraError};
use crate::model::{Model, ModelError, ModelWeights, Spec};
use crate::ops::{Cpu, DeviceError};

pub use factory::engine_factory;
pub use open::{Dataset, open};
pub use rows::RowSource;

/// What a trainer is made from, beside the base model.
pub struct TrainerParts {
    /// The recipe.
    pub recipe: Recipe,
    /// Optimizer steps of the whole job.
    pub total_steps: u64,
    /// Tokens of the largest slot that will come.
    pub largest_slot_tokens: usize,
    /// Digests of everything that the result depends on.
    pub inputs: InputDigests,
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
    /// The device has no room for a pass.
    #[error(transparent)]
    Room(#[from] NoRoom),
    /// The device has no room for the model, or fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// One job's model, adapter, optimizer and gradient sums on one device.
pub struct Trainer<B: Backend = Cpu> {
    recipe: Recipe,
    inputs: InputDigests,
    device: String,
    base_bytes: u64,
    activation_bytes: u64,
    schedule: LrSchedule,
    rows: Box<dyn RowSource>,
    model: Model<B>,
    pass: Pass<B>,
    /// There but while another takes its place.
    state: Option<B::State>,
    sums: B::Sums,
    staging: Staging<B::Sums>,
    /// Adapter parameters.
    params: usize,
    summed: Option<ReducedSum>,
    /// Where checkpoints go beside the disk.
    shared: Option<SharedStore>,
}

impl<B: Backend> Trainer<B> {
    /// A trainer before its first step, of a base model in host memory.
    ///
    /// # Errors
    /// Weights that do not fit the dimensions, an adapter that does not fit the model, or a device without room.
    pub fn new(
        backend: B,
        (spec, weights): (Spec, ModelWeights),
        parts: TrainerParts,
    ) -> Result<Self, TrainerError> {
        let base_bytes = weights.bytes() as u64;
        Self::with_model((Model::new(backend, spec, weights)?, base_bytes), parts)
    }

    /// A trainer before its first step, of a base model on its device and the bytes that it holds.
    ///
    /// # Errors
    /// An adapter that does not fit the model, or a device without room.
    pub fn with_model(
        (model, base_bytes): (Model<B>, u64),
        parts: TrainerParts,
    ) -> Result<Self, TrainerError> {
        let recipe = parts.recipe;
        let base_bytes = base_bytes - bytes_on_host(&model);
        let adapter = Adapter::new(model.spec(), &recipe.lora, recipe.adapter_seed())?;
        let layout = adapter.layout();
        let matrices = layout
            .tensors()
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.range()));
        let optimizer = AdamW::new((&recipe.training).into(), matrices);
        let shape = PassShape {
            tokens: parts.largest_slot_tokens,
            rank: layout.max_rank(),
        };
        let len = layout.len();
        let backend = model.ops();
        let state = backend.place_state(TrainState {
            adapter,
            optimizer,
            progress: as_on(backend, Progress::default()),
        })?;
        let sums = backend.new_sums(len);
        backend.health()?;
        let (checkpointing, budget) = (
            recipe.lora.use_gradient_checkpointing,
            backend.pass_budget(),
        );
        let budgets = (budget, room::for_peers(&recipe, backend, len));
        let plan =
            MemoryPlan::choose_beside_peers(backend, model.spec(), checkpointing, shape, budgets);
        let activation_bytes = plan.bytes(backend, model.spec(), shape);
        if let Some(free) = backend.free_bytes() {
            room::check((plan, model.spec()), shape, activation_bytes, free)?;
        }
        let chosen = (plan, model.spec());
        let spare = room::spare(chosen, checkpointing, budgets, activation_bytes, len);
        let base_bytes = base_bytes + backend.spend(model.spec(), spare);
        Ok(Self {
            inputs: parts.inputs,
            device: parts.device,
            base_bytes,
            activation_bytes,
            schedule: LrSchedule::new(&recipe.training, parts.total_steps),
            rows: parts.rows,
            model,
            pass: Pass::new(plan),
            state: Some(state),
            sums,
            staging: Staging::new(len),
            params: len,
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

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &B {
        self.model.ops()
    }

    /// What is kept from the forward pass.
    #[must_use]
    pub fn memory_plan(&self) -> MemoryPlan {
        self.pass.plan()
    }

    /// The adapter as products read it.
    #[must_use]
    pub fn adapter(&self) -> &Adapter<B::Params> {
        self.model.ops().adapter(self.state())
    }

    fn state(&self) -> &B::State {
        self.state.as_ref().expect(NO_STATE)
    }

    fn progress(&mut self) -> &mut Progress {
        let state = self.state.as_mut().expect(NO_STATE);
        self.model.ops().progress(state)
    }
}

/// Bytes of a base model that its device reads in host memory.
fn bytes_on_host<B: Backend>(model: &Model<B>) -> u64 {
    let spec = model.spec();
    if model.ops().is_lean() && !spec.tied_head {
        2 * (spec.vocab * spec.hidden) as u64
    } else {
        0
    }
}

/// A progress as this backend goes on from it: with a loss scale where it uses one.
fn as_on<B: Backend>(backend: &B, progress: Progress) -> Progress {
    let loss_scale = progress.loss_scale.unwrap_or_default();
    Progress {
        loss_scale: backend.scales_loss().then_some(loss_scale),
        ..progress
    }
}

/// Why there is always a state.
const NO_STATE: &str = "a restore that failed to place its state ended the trainer";

#[cfg(test)]
mod tests;
