//! What an engine says of itself and of its work.

use std::fmt;

use crate::id::Digest;

/// An engine as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The device as a person would name it.
    pub device: String,
    /// Trainable parameters.
    pub adapter_params: u64,
    /// Parameters of the frozen base.
    pub base_params: u64,
    /// Digest of the frozen base as it was loaded.
    pub model_digest: Digest,
    /// Digest of adapter and optimizer state.
    pub state_digest: Digest,
    /// Whether it scales the loss, and expects a gradient to overflow now and then.
    pub scales_loss: bool,
    /// Where the memory goes.
    pub memory: MemoryReport,
}

/// Bytes by purpose, as the engine itself accounts for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryReport {
    /// The frozen base.
    pub base_bytes: u64,
    /// The adapter's parameters.
    pub adapter_bytes: u64,
    /// Optimizer state.
    pub optimizer_bytes: u64,
    /// The integer accumulator and the reduced sum.
    pub accumulator_bytes: u64,
    /// Activations and scratch of the largest slot.
    pub activation_bytes: u64,
}

impl MemoryReport {
    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.base_bytes
            + self.adapter_bytes
            + self.optimizer_bytes
            + self.accumulator_bytes
            + self.activation_bytes
    }
}

/// A computed micro-batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlotOutcome {
    /// Sum of the supervised tokens' losses, in nats.
    pub loss_sum: f64,
    /// Supervised tokens.
    pub supervised: u64,
    /// All tokens.
    pub tokens: u64,
    /// [`SumDigest`](crate::sum_digest::SumDigest) of the slot's integer gradient.
    pub digest: Digest,
}

/// What the reserved elements of a sum say: the same on every member, since they are part of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumHealth {
    /// Every gradient was finite and within range.
    Finite,
    /// A gradient was infinite or not a number.
    NonFinite,
    /// A gradient was beyond the fixed-point range.
    Overflow,
}

/// What kind of failure a worker reports; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The recipe asks for what this model or worker cannot do.
    Recipe,
    /// The base model is missing, damaged or unsupported.
    Model,
    /// The prepared dataset could not be read.
    Data,
    /// Not enough memory.
    Memory,
    /// A folder could not be written, or the disk is full.
    Storage,
    /// A checkpoint does not fit the job or is damaged.
    Checkpoint,
    /// A peer failed inside the all-reduce.
    Collective,
    /// A bug of weft.
    Internal,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recipe => "recipe",
            Self::Model => "model",
            Self::Data => "data",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::Checkpoint => "checkpoint",
            Self::Collective => "collective",
            Self::Internal => "internal",
        })
    }
}
