//! A job's state in this machine's memory.

use std::ops::Range;

use weft_common::id::Digest;
use weft_common::recipe::{Dtype, Recipe};
use weft_common::sum_digest::SumDigest;

use super::accumulator::{Accumulator, ReducedSum};
use super::backend::{Backend, StepScalars};
use super::optimizer::{UpdateScalars, clip_coefficient, global_norm};
use crate::agent::EngineError;
use crate::checkpoint::{Progress, TrainState};
use crate::collective::{Cancel, Collective};
use crate::lora::{Adapter, AdapterLayout, LoraError};
use crate::model::{ModelWeights, Spec};
use crate::ops::{Cpu, DeviceError};

/// What `use_gradient_checkpointing: auto` lets a pass take: small enough for a laptop beside its user's other work; more
/// would save at most the recomputation, a quarter of the time.
const PASS_BYTES: u64 = 384 << 20;

/// The most that one adapter parameter takes: itself, its sum as integer and as gradient, two moments.
const STATE_BYTES: u64 = 24;

/// The backend of a job on this machine's processors. It computes in f32 whatever the recipe says, but scales the loss where
/// that says fp16, so that its states are those that a GPU would have. Where the recipe limits the memory, a pass gets what base and state
/// leave of it.
///
/// # Errors
/// An adapter that cannot be laid out.
pub fn cpu_for_job(recipe: &Recipe, spec: &Spec, weights: &ModelWeights) -> Result<Cpu, LoraError> {
    let state = AdapterLayout::new(spec, &recipe.lora)?.len() as u64 * STATE_BYTES;
    let taken = weights.bytes() as u64 + state;
    let limit = recipe.resources.memory_limit_bytes();
    let cpu = Cpu::new().with_pass_limit(limit.map(|limit| limit.saturating_sub(taken)));
    Ok(match recipe.model.dtype {
        Dtype::Fp16 => cpu.with_scaled_loss(),
        Dtype::Auto | Dtype::Bf16 | Dtype::Fp32 => cpu,
    })
}

/// Exact gradient sums, and what they were reduced to.
#[derive(Debug)]
pub struct CpuSums {
    accumulator: Accumulator,
    /// The reduced gradient; empty before the first reduction.
    grads: Vec<f32>,
}

impl Backend for Cpu {
    type State = TrainState;
    type Sums = CpuSums;

    fn scales_loss(&self) -> bool {
        self.loss_is_scaled()
    }

    fn pass_budget(&self) -> u64 {
        self.pass_limit().unwrap_or(PASS_BYTES)
    }

    fn place_state(&self, state: TrainState) -> Result<TrainState, DeviceError> {
        Ok(state)
    }

    fn fetch_state(&self, state: &TrainState) -> Result<TrainState, DeviceError> {
        Ok(state.clone())
    }

    fn adapter<'a>(&self, state: &'a TrainState) -> &'a Adapter {
        &state.adapter
    }

    fn progress<'a>(&self, state: &'a mut TrainState) -> &'a mut Progress {
        &mut state.progress
    }

    fn state_digest(&self, state: &TrainState) -> Digest {
        state.digest()
    }

    fn optimizer_bytes(&self, state: &TrainState) -> u64 {
        state.optimizer.state_bytes()
    }

    fn new_sums(&self, len: usize) -> CpuSums {
        CpuSums {
            accumulator: Accumulator::new(len),
            grads: Vec::new(),
        }
    }

    fn sums_bytes(&self, sums: &CpuSums) -> u64 {
        (sums.accumulator.len() * size_of::<i64>() + sums.grads.len() * size_of::<f32>()) as u64
    }

    fn add(&self, sums: &mut CpuSums, range: Range<usize>, grads: &Vec<f32>, unscale: f32) {
        let grads = &grads[..range.len()];
        if unscale == 1.0 {
            return sums.accumulator.add(range.start, grads);
        }
        let unscaled: Vec<f32> = grads.iter().map(|grad| grad * unscale).collect();
        sums.accumulator.add(range.start, &unscaled);
    }

    fn end_slot(&self, sums: &mut CpuSums) -> SumDigest {
        sums.accumulator.end_slot()
    }

    fn absorb(&self, sums: &mut CpuSums, staged: &mut CpuSums) {
        sums.accumulator.absorb(&mut staged.accumulator);
    }

    fn clear(&self, sums: &mut CpuSums) {
        sums.accumulator.clear();
    }

    fn reduce(
        &self,
        sums: &mut CpuSums,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<ReducedSum, EngineError> {
        let CpuSums { accumulator, grads } = sums;
        grads.resize(accumulator.len(), 0.0);
        Ok(accumulator.reduce(collective, cancel, grads)?)
    }

    fn update(&self, state: &mut TrainState, sums: &mut CpuSums, scalars: StepScalars) -> f64 {
        let norm = global_norm(&sums.grads);
        let scalars = UpdateScalars {
            learning_rate: scalars.learning_rate,
            clip: clip_coefficient(norm, scalars.max_norm),
        };
        state
            .optimizer
            .update(state.adapter.values_mut(), &sums.grads, scalars);
        norm
    }
}
