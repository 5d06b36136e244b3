//! The forward and backward pass of one micro-batch.

use std::ops::Range;

use super::loss::LossBuffers;
use super::residual::Residuals;
use super::{MemoryPlan, PackedBatch, PassShape, SlotLoss};
use crate::lora::{Adapter, AdapterLayout};
use crate::model::layer::{Activations, Below, Layer, Tokens, Workspace};
use crate::model::{Model, Spec};
use crate::ops::{Cpu, DeviceError, Ops, Sizes};

/// Takes gradients as they are finished, so that no gradient of the whole adapter is ever held.
pub trait GradSink<B = Vec<f32>> {
    /// Takes the gradient of `range` of the adapter's flat array: the first `range.len()` elements of `grad`, which
    /// may be longer.
    ///
    /// Ranges of one pass do not overlap and together cover the adapter; layers come last to first. A pass in which
    /// nothing is supervised has no gradient and makes no call.
    fn accept(&mut self, range: Range<usize>, grad: &B);

    /// Whether nobody wants the gradient any more; asked before each layer, and ends the pass.
    fn abandoned(&self) -> bool {
        false
    }
}

/// A micro-batch that did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// A token id without an embedding.
    #[error(
        "token id {token} is outside the model's vocabulary of {vocab}; the tokenizer belongs to another model"
    )]
    Token {
        /// The id.
        token: u32,
        /// Vocabulary entries.
        vocab: usize,
    },
    /// A row longer than the model can see.
    #[error(
        "a row of {tokens} tokens exceeds the model's context {context}; lower model.max_seq_length"
    )]
    Context {
        /// Its tokens.
        tokens: usize,
        /// The model's limit.
        context: usize,
    },
    /// The device could not do its work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The sink wanted no more; it may hold a part of the gradient.
    #[error("the micro-batch was abandoned")]
    Abandoned,
}

/// Runs micro-batches. Owns the buffers, which grow to the largest micro-batch seen and are reused.
pub struct Pass<O: Ops> {
    plan: MemoryPlan,
    room: Option<Room<O>>,
}

/// The buffers of a pass.
struct Room<O: Ops> {
    capacity: usize,
    rank: usize,
    residuals: Residuals<O>,
    kept: Vec<Activations<O>>,
    work: Workspace<O>,
    loss: LossBuffers<O>,
    dx: O::Buf,
    lora_grads: O::Floats,
}

impl<O: Ops> Pass<O> {
    /// A pass that keeps what `plan` says.
    #[must_use]
    pub fn new(plan: MemoryPlan) -> Self {
        Self { plan, room: None }
    }

    /// What it keeps.
    #[must_use]
    pub fn plan(&self) -> MemoryPlan {
        self.plan
    }

    /// Loss of a micro-batch; the adapter's gradient of `scale · loss_sum` goes to `sink`.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, a row is longer than the model's context, or `sink` has abandoned the pass.
    pub fn forward_backward(
        &mut self,
        model: &Model<O>,
        adapter: &Adapter<O::Params>,
        batch: &PackedBatch,
        scale: f32,
        sink: &mut dyn GradSink<O::Floats>,
    ) -> Result<SlotLoss, PassError> {
        check(model.spec(), batch)?;
        if batch.supervised() == 0 {
            return Ok(SlotLoss::default());
        }
        let plan = self.plan;
        let room = self.room_for(model, Some(adapter.layout()), batch.len());
        let tokens = tokens_of(model, batch);
        let run = Run {
            model,
            adapter: Some(adapter),
            plan,
            tokens: &tokens,
        };
        run.forward(batch, room, sink)?;
        let last = room.residuals.last();
        let ends = (last, &mut room.dx);
        let loss = room
            .loss
            .forward_backward(model, batch, scale, &mut room.work, ends);
        run.backward(adapter, room, sink)?;
        finished(model, batch, loss)
    }

    /// Loss of a micro-batch without its gradient, of the base model alone where there is no adapter. The same bits as with
    /// a gradient.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, a row is longer than the model's context, or the device fails.
    pub fn loss(
        &mut self,
        model: &Model<O>,
        adapter: Option<&Adapter<O::Params>>,
        batch: &PackedBatch,
    ) -> Result<SlotLoss, PassError> {
        check(model.spec(), batch)?;
        if batch.supervised() == 0 {
            return Ok(SlotLoss::default());
        }
        let plan = self.plan;
        let room = self.room_for(model, adapter.map(Adapter::layout), batch.len());
        let run = Run {
            model,
            adapter,
            plan,
            tokens: &tokens_of(model, batch),
        };
        run.forward(batch, room, &Everyone)?;
        let ends = (room.residuals.last(), &mut room.dx);
        // Nobody wants the gradient of the residual stream that comes with it.
        let loss = room
            .loss
            .forward_backward(model, batch, 0.0, &mut room.work, ends);
        finished(model, batch, loss)
    }

    fn room_for(
        &mut self,
        model: &Model<O>,
        layout: Option<&AdapterLayout>,
        tokens: usize,
    ) -> &mut Room<O> {
        let rank = layout.map_or(0, AdapterLayout::max_rank);
        let fits = |room: &Room<O>| room.capacity >= tokens && room.rank >= rank;
        // The old room is dropped first, so that both never exist together.
        self.room = self.room.take().filter(fits);
        let grads = layout.map_or(0, AdapterLayout::max_layer_len);
        self.room
            .get_or_insert_with(|| Room::new(model, (rank, grads), self.plan, tokens))
    }
}

fn tokens_of<O: Ops>(model: &Model<O>, batch: &PackedBatch) -> Tokens<O> {
    let (boundaries, positions) = (batch.cu_seqlens(), batch.positions());
    Tokens::new(model.ops(), model.spec(), boundaries, &positions)
}

/// Waits for a loss.
fn finished<O: Ops>(
    model: &Model<O>,
    batch: &PackedBatch,
    loss: O::Loss,
) -> Result<SlotLoss, PassError> {
    let loss_sum = model.ops().loss(loss);
    model.ops().health()?;
    Ok(SlotLoss {
        loss_sum,
        supervised: batch.supervised(),
    })
}

/// Wants a pass to run to its end.
struct Everyone;

impl<B> GradSink<B> for Everyone {
    fn accept(&mut self, _: Range<usize>, _: &B) {}
}

impl<O: Ops> Room<O> {
    /// For `tokens` tokens, at an adapter's largest rank and largest gradient of a layer.
    fn new(
        model: &Model<O>,
        (rank, grads): (usize, usize),
        plan: MemoryPlan,
        tokens: usize,
    ) -> Self {
        let (ops, spec) = (model.ops(), model.spec());
        let work = Workspace::for_training(ops, spec, tokens, rank);
        Self {
            capacity: tokens,
            rank,
            residuals: Residuals::new(ops, spec, tokens, plan.offloads()),
            kept: (0..plan.kept_layers())
                .map(|_| Activations::new(ops, spec, tokens))
                .collect(),
            loss: LossBuffers::new(ops, spec, tokens, &work),
            work,
            dx: ops.alloc(tokens, spec.hidden),
            // A device gives no memory of no bytes, which is what a base model alone would ask for.
            lora_grads: ops.alloc_floats(grads.max(1)),
        }
    }
}

/// One pass under way.
struct Run<'a, O: Ops> {
    model: &'a Model<O>,
    adapter: Option<&'a Adapter<O::Params>>,
    plan: MemoryPlan,
    tokens: &'a Tokens<O>,
}

impl<'a, O: Ops> Run<'a, O> {
    fn layer(&self, index: usize) -> Layer<'a, O> {
        let Self {
            model,
            adapter,
            tokens,
            ..
        } = *self;
        let (ops, spec) = (model.ops(), model.spec());
        Layer {
            ops,
            spec,
            weights: model.layer(index),
            adapter,
            index,
            tokens,
        }
    }

    fn forward(
        &self,
        batch: &PackedBatch,
        room: &mut Room<O>,
        sink: &dyn GradSink<O::Floats>,
    ) -> Result<(), PassError> {
        let (ops, spec) = (self.model.ops(), self.model.spec());
        let ids = ops.upload_ids(batch.tokens(), spec.vocab);
        ops.embed(
            &ids,
            self.model.embed(),
            spec.embed_scale,
            room.residuals.start(ops, batch.len()),
        );
        for index in 0..spec.layers {
            wanted(sink)?;
            let (x_in, x_out) = room.residuals.step(ops, index);
            let kept = &mut room.kept[self.plan.slot(spec, index)];
            self.layer(index).forward(x_in, kept, &mut room.work, x_out);
        }
        Ok(())
    }

    /// Down to the lowest layer that has an adapter: below it there is nothing to train.
    fn backward(
        &self,
        adapter: &Adapter<O::Params>,
        room: &mut Room<O>,
        sink: &mut dyn GradSink<O::Floats>,
    ) -> Result<(), PassError> {
        let spec = self.model.spec();
        let layout = adapter.layout();
        let lowest = (0..spec.layers).find(|&index| !layout.layer(index).is_empty());
        let Some(lowest) = lowest else { return Ok(()) };
        for index in (lowest..spec.layers).rev() {
            wanted(sink)?;
            let layer = self.layer(index);
            let x_in = room.residuals.input(self.model.ops(), index);
            let kept = &mut room.kept[self.plan.slot(spec, index)];
            if self.plan.recomputes(spec, index) {
                layer.recompute(x_in, kept, &mut room.work);
            }
            let below = if index == lowest {
                Below::Frozen
            } else {
                Below::Wanted
            };
            layer.backward(
                x_in,
                kept,
                &mut room.work,
                &mut room.dx,
                (&mut room.lora_grads, below),
            );
            if !layout.layer(index).is_empty() {
                sink.accept(layout.layer(index), &room.lora_grads);
            }
        }
        Ok(())
    }
}

/// Bytes of device memory that a pass takes, its adapter's largest gradient not counted.
///
/// Buffers are the same on every backend but for how `ops` counts them; the processors' stand for all.
pub(super) fn bytes(ops: &impl Sizes, spec: &Spec, plan: MemoryPlan, shape: PassShape) -> u64 {
    let PassShape { tokens, rank } = shape;
    let kept = plan.kept_layers() as u64 * Activations::<Cpu>::bytes(ops, spec, tokens);
    Residuals::<Cpu>::bytes(ops, spec, tokens, plan.offloads())
        + kept
        + Workspace::<Cpu>::bytes(ops, spec, tokens)
        + LossBuffers::<Cpu>::bytes(ops, spec, tokens)
        + ops.matrix_bytes(tokens, &[spec.hidden])
        + ops.scratch_bytes(spec, tokens, rank)
}

fn wanted<B>(sink: &dyn GradSink<B>) -> Result<(), PassError> {
    if sink.abandoned() {
        Err(PassError::Abandoned)
    } else {
        Ok(())
    }
}

fn check(spec: &Spec, batch: &PackedBatch) -> Result<(), PassError> {
    let longest = batch
        .cu_seqlens()
        .windows(2)
        .map(|ends| (ends[1] - ends[0]) as usize)
        .max()
        .unwrap_or(0);
    if longest > spec.context {
        return Err(PassError::Context {
            tokens: longest,
            context: spec.context,
        });
    }
    match batch
        .tokens()
        .iter()
        .find(|&&token| token as usize >= spec.vocab)
    {
        Some(&token) => Err(PassError::Token {
            token,
            vocab: spec.vocab,
        }),
        None => Ok(()),
    }
}
