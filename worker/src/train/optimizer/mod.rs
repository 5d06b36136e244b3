//! AdamW over the adapter's matrices, with 32-bit or bitsandbytes' 8-bit state, and gradient clipping.
//!
//! [`AdamW::update`] is one pass over parameters, gradients and state. Every element depends on its own block alone and
//! every scalar is computed once, so that any number of threads gives the same bits. Gradients are finite: a step
//! whose sum is not never comes here.

mod blocks;
mod clip;
mod coefficients;
mod fp32;
mod quantizer;

use std::ops::Range;

use rayon::prelude::*;
use weft_common::recipe::{self, TrainingSection};

pub use blocks::BlockMoments;
pub use clip::{clip_coefficient, global_norm};

pub(crate) use coefficients::Coefficients;

/// Tensors with fewer elements keep 32-bit state under an 8-bit optimizer, as in bitsandbytes.
const MIN_8BIT_ELEMENTS: usize = 4096;

/// What AdamW is set to; scalars as the recipe writes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Width of the state.
    pub kind: recipe::Optimizer,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, on every matrix of the adapter.
    pub weight_decay: f64,
}

impl From<&TrainingSection> for AdamWSettings {
    fn from(training: &TrainingSection) -> Self {
        Self {
            kind: training.optim,
            beta1: training.adam_beta1,
            beta2: training.adam_beta2,
            epsilon: training.adam_epsilon,
            weight_decay: training.weight_decay,
        }
    }
}

/// AdamW and its state for one adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    settings: AdamWSettings,
    updates: u64,
    tensors: Vec<TensorState>,
}

/// The state of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorState {
    /// The matrix, by its PEFT name.
    pub name: String,
    /// Where it lies among the parameters.
    pub range: Range<usize>,
    /// Its moments.
    pub moments: Moments,
}

/// First and second moment of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Moments {
    /// 32-bit numbers.
    Fp32 {
        /// Mean of the gradients.
        first: Vec<f32>,
        /// Mean of their squares.
        second: Vec<f32>,
    },
    /// 8-bit codes with a scale for each block of 256.
    Blocks {
        /// Mean of the gradients, signed.
        first: BlockMoments,
        /// Mean of their squares.
        second: BlockMoments,
    },
}

/// The scalars of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateScalars {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// What gradients are multiplied with, from [`clip_coefficient`].
    pub clip: f32,
}

impl AdamW {
    /// A fresh optimizer for these matrices, which lie one after another: moments zero, no updates made.
    #[must_use]
    pub fn new(
        settings: AdamWSettings,
        matrices: impl IntoIterator<Item = (String, Range<usize>)>,
    ) -> Self {
        let state = |(name, range): (String, Range<usize>)| TensorState {
            moments: Moments::zero(settings.kind, range.len()),
            name,
            range,
        };
        Self {
            settings,
            updates: 0,
            tensors: matrices.into_iter().map(state).collect(),
        }
    }

    /// What it is set to.
    #[must_use]
    pub fn settings(&self) -> &AdamWSettings {
        &self.settings
    }

    /// How many updates were made; bias correction depends on it.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The state of every matrix, in the layout's order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorState] {
        &self.tensors
    }

    /// The same, to be written to.
    pub fn tensors_mut(&mut self) -> &mut [TensorState] {
        &mut self.tensors
    }

    /// So many updates were made.
    pub fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// Replaces the state, as a checkpoint holds it. The caller has matched `tensors` with the layout.
    pub fn restore(&mut self, updates: u64, tensors: Vec<TensorState>) {
        self.updates = updates;
        self.tensors = tensors;
    }

    /// Bytes that the state takes.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.tensors
            .iter()
            .map(|tensor| tensor.moments.bytes())
            .sum()
    }

    /// One update of all parameters.
    ///
    /// # Panics
    /// If `params` or `grads` are not as long as the layout.
    pub fn update(&mut self, params: &mut [f32], grads: &[f32], scalars: UpdateScalars) {
        self.updates += 1;
        let coefficients = Coefficients::new(&self.settings, self.updates, scalars);
        let kind = self.settings.kind;
        matrices(&mut self.tensors, params, grads)
            .into_par_iter()
            .for_each(|(moments, params, grads)| {
                moments.update(kind, params, grads, &coefficients)
            });
    }
}

/// Every matrix with its state; they lie one after another.
fn matrices<'a>(
    tensors: &'a mut [TensorState],
    mut params: &'a mut [f32],
    grads: &'a [f32],
) -> Vec<(&'a mut Moments, &'a mut [f32], &'a [f32])> {
    assert_eq!(params.len(), grads.len(), "one gradient for each parameter");
    let mut start = 0;
    let mut parts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        assert_eq!(tensor.range.start, start, "matrices lie one after another");
        let (own, rest) = params.split_at_mut(tensor.range.len());
        parts.push((&mut tensor.moments, own, &grads[tensor.range.clone()]));
        params = rest;
        start = tensor.range.end;
    }
    assert!(params.is_empty(), "every parameter belongs to a matrix");
    parts
}

impl Moments {
    fn zero(kind: recipe::Optimizer, len: usize) -> Self {
        match kind {
            recipe::Optimizer::AdamW8bit if len >= MIN_8BIT_ELEMENTS => Self::Blocks {
                first: BlockMoments::zero(len),
                second: BlockMoments::zero(len),
            },
            recipe::Optimizer::AdamW8bit | recipe::Optimizer::AdamW => Self::Fp32 {
                first: vec![0.0; len],
                second: vec![0.0; len],
            },
        }
    }

    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Fp32 { first, second } => 4 * (first.len() + second.len()),
            Self::Blocks { first, second } => first.bytes() + second.bytes(),
        };
        bytes as u64
    }

    fn update(
        &mut self,
        kind: recipe::Optimizer,
        params: &mut [f32],
        grads: &[f32],
        scalars: &Coefficients,
    ) {
        match self {
            Self::Fp32 { first, second } => {
                let rule = match kind {
                    recipe::Optimizer::AdamW => fp32::update_like_torch,
                    recipe::Optimizer::AdamW8bit => fp32::update_like_bitsandbytes,
                };
                fp32::for_each_chunk(
                    params,
                    grads,
                    first,
                    second,
                    |params, grads, first, second| {
                        rule(params, grads, first, second, scalars);
                    },
                );
            }
            Self::Blocks { first, second } => blocks::update(params, grads, first, second, scalars),
        }
    }
}

#[cfg(test)]
mod tests;
