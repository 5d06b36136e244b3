//! A compute backend that holds a job's state: what a trainer needs beside [`Ops`].

use std::ops::Range;

use weft_common::id::Digest;
use weft_common::sum_digest::SumDigest;

use super::accumulator::ReducedSum;
use crate::agent::EngineError;
use crate::checkpoint::{Progress, TrainState};
use crate::collective::{Cancel, Collective, GpuLink};
use crate::lora::Adapter;
use crate::model::Spec;
use crate::ops::{DeviceError, Ops};

/// What one update is told beside the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepScalars {
    /// Learning rate.
    pub learning_rate: f64,
    /// The gradient's norm is clipped to this; 0: it is not.
    pub max_norm: f64,
}

/// A compute backend with a job's adapter, optimizer and exact gradient sums on it.
///
/// As with [`Ops`], work may be asynchronous, and what fails shows in [`Ops::health`]; methods that return a number wait.
pub trait Backend: Ops {
    /// A job's adapter and optimizer.
    type State: Send;
    /// The exact gradient sums of a step, and the last reduction of them.
    type Sums: Send;

    /// Whether gradients have so little range on the way that the loss is scaled.
    fn scales_loss(&self) -> bool;

    /// What a pass may take of the device's memory, now that model and state are there.
    fn pass_budget(&self) -> u64;

    /// What is left of the device's memory, where a pass that takes more would fail.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Bytes of the device's memory in use by everybody, where it has its own.
    fn used_bytes(&self) -> Option<u64> {
        None
    }

    /// Its GPU, whose sums could go over NCCL.
    fn gpu_link(&self) -> Option<GpuLink> {
        None
    }

    /// Takes up to `bytes` of the device's memory to go faster, now that nothing else needs them; gives how many of them.
    fn spend(&self, _spec: &Spec, _bytes: u64) -> u64 {
        0
    }

    /// Moves a state to the device.
    ///
    /// # Errors
    /// There is no room.
    fn place_state(&self, state: TrainState) -> Result<Self::State, DeviceError>;

    /// A copy of the state in host memory. Waits.
    ///
    /// # Errors
    /// The device's.
    fn fetch_state(&self, state: &Self::State) -> Result<TrainState, DeviceError>;

    /// The adapter as products read it.
    fn adapter<'a>(&self, state: &'a Self::State) -> &'a Adapter<Self::Params>;

    /// Where training stands.
    fn progress<'a>(&self, state: &'a mut Self::State) -> &'a mut Progress;

    /// [`TrainState::digest`] of it. Waits.
    fn state_digest(&self, state: &Self::State) -> Digest;

    /// Bytes of the optimizer's moments.
    fn optimizer_bytes(&self, state: &Self::State) -> u64;

    /// Empty sums of `len` elements.
    fn new_sums(&self, len: usize) -> Self::Sums;

    /// Bytes held.
    fn sums_bytes(&self, sums: &Self::Sums) -> u64;

    /// Adds a part of one micro-batch's gradient: the first `range.len()` elements of `grads`, times `unscale`.
    fn add(&self, sums: &mut Self::Sums, range: Range<usize>, grads: &Self::Floats, unscale: f32);

    /// Ends a micro-batch: the digest of everything added since the last one ended. Waits.
    fn end_slot(&self, sums: &mut Self::Sums) -> SumDigest;

    /// Adds all that `staged` holds to `sums` and empties it.
    fn absorb(&self, sums: &mut Self::Sums, staged: &mut Self::Sums);

    /// Forgets everything.
    fn clear(&self, sums: &mut Self::Sums);

    /// Sums over all members; the own sums stay, so that the call can be repeated with another collective.
    ///
    /// # Errors
    /// The collective's, or the device's.
    fn reduce(
        &self,
        sums: &mut Self::Sums,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<ReducedSum, EngineError>;

    /// Clips the last reduced sum and applies it. Gives its norm before clipping. Waits.
    fn update(&self, state: &mut Self::State, sums: &mut Self::Sums, scalars: StepScalars) -> f64;
}
