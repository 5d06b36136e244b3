//! What a measurement found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StepSettings;
use super::cost::{StepBytes, StepFlops};
use super::floor::{FloorSeconds, Rates};
use crate::agent::MemoryReport;

/// One measurement. Its names are those of `weft bench step --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The model.
    pub model: String,
    /// Parameters of the base.
    pub parameters: u64,
    /// Parameters of the adapter.
    pub adapter_parameters: u64,
    /// The device.
    pub device: String,
    /// What was asked for.
    pub settings: StepSettings,
    /// Layers of the model.
    pub layers: usize,
    /// Layers that keep their activations.
    pub kept_layers: usize,
    /// Tokens of a step.
    pub tokens_per_step: u64,
    /// Tokens per second, of each step that counts.
    pub tokens_per_second: Spread,
    /// Seconds of each step that counts.
    pub step_seconds: Spread,
    /// Seconds to make or load the weights.
    pub weights_seconds: f64,
    /// Seconds to move them to the device and make the rest.
    pub trainer_seconds: f64,
    /// Mean loss of the first step, warm-up included; near [`Self::uniform_loss`] for random weights.
    pub first_loss: f64,
    /// Mean loss of the last step.
    pub last_loss: f64,
    /// ln(vocabulary): the loss of one who knows nothing.
    pub uniform_loss: f64,
    /// Norm of the last step's gradient before clipping.
    pub grad_norm: f64,
    /// Steps that passed without an update because their gradient was not finite.
    pub skipped_steps: u32,
    /// Bytes by the engine's own accounting.
    pub memory: Memory,
    /// Device memory in use by the driver's count, at its highest after a step.
    pub device_memory_bytes: Option<u64>,
    /// The most host memory that this process held while it made the trainer and ran the steps.
    pub host_peak_bytes: u64,
    /// FLOPs of a step.
    pub flops: StepFlops,
    /// Bytes of a step.
    pub bytes: StepBytes,
    /// What the device can do.
    pub rates: Rates,
    /// What a step would take at those rates.
    pub floor_seconds: FloorSeconds,
    /// Where the device's time went in one more step, in which it was noted; empty where the device cannot tell.
    pub seconds_by_class: BTreeMap<&'static str, f64>,
    /// The floor over the median step: 1 is all that the device has.
    pub floor_share: f64,
}

/// The engine's own accounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The frozen base.
    pub base_bytes: u64,
    /// The adapter's parameters.
    pub adapter_bytes: u64,
    /// Optimizer state.
    pub optimizer_bytes: u64,
    /// Exact sums and gradient.
    pub accumulator_bytes: u64,
    /// Activations and scratch.
    pub activation_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

impl From<MemoryReport> for Memory {
    fn from(report: MemoryReport) -> Self {
        Self {
            base_bytes: report.base_bytes,
            adapter_bytes: report.adapter_bytes,
            optimizer_bytes: report.optimizer_bytes,
            accumulator_bytes: report.accumulator_bytes,
            activation_bytes: report.activation_bytes,
            total_bytes: report.total_bytes(),
        }
    }
}

/// Several measurements of the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half are below.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (lower, upper) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self {
            median: f64::midpoint(at(lower), at(upper)),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
        }
    }

    /// The same measurements as `numerator` over each.
    #[must_use]
    pub fn inverse(self, numerator: f64) -> Self {
        Self {
            median: numerator / self.median,
            min: numerator / self.max,
            max: numerator / self.min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 8.0]);
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 8.0));
        assert_eq!(Spread::of(&[5.0]).median, 5.0);
    }

    #[test]
    fn the_slowest_step_has_the_lowest_rate() {
        let rate = Spread::of(&[1.0, 2.0, 4.0]).inverse(8.0);
        assert_eq!((rate.median, rate.min, rate.max), (4.0, 2.0, 8.0));
    }
}
