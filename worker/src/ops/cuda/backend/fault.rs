//! The first thing that failed.

use std::sync::Mutex;

use super::ops::Held;
use super::profile::OpClass;
use super::{Cuda, locked};
use crate::cuda::GpuError;
use crate::ops::DeviceError;

/// What failed; all work after it is left out, so that no op meets a buffer for which there was no room.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Option<DeviceError>>);

impl From<GpuError> for DeviceError {
    fn from(error: GpuError) -> Self {
        let text = error.to_string();
        let advice = if text.contains("OUT_OF_MEMORY") {
            "; the GPU's memory is full: choose lora.use_gradient_checkpointing: unsloth, or a smaller \
             training.per_device_train_batch_size or model.max_seq_length, or end what else uses the GPU (nvidia-smi \
             lists it)"
        } else {
            ""
        };
        Self(format!("{text}{advice}"))
    }
}

impl Cuda {
    /// Does `work` unless something failed before; keeps its error. `None` where there is no result.
    pub(super) fn attempt<T>(&self, work: impl FnOnce() -> Result<T, GpuError>) -> Option<T> {
        if locked(&self.fault.0).is_some() {
            return None;
        }
        match work() {
            Ok(result) => Some(result),
            Err(error) => {
                locked(&self.fault.0).get_or_insert_with(|| error.into());
                None
            }
        }
    }

    /// [`Self::attempt`], with its time noted where somebody measures.
    pub(super) fn measured(&self, class: OpClass, work: impl FnOnce() -> Result<(), GpuError>) {
        self.attempt(|| self.timed(class, work));
    }

    /// Waits for the device; gives the first failure.
    pub(super) fn check(&self) -> Result<(), DeviceError> {
        self.attempt(|| self.wait());
        locked(&self.fault.0).clone().map_or(Ok(()), Err)
    }

    /// What failed, after an attempt gave nothing.
    pub(super) fn failure(&self) -> DeviceError {
        let failed = locked(&self.fault.0).clone();
        failed.unwrap_or_else(|| DeviceError("the GPU's work was left out".to_owned()))
    }

    /// What `work` makes, or nothing.
    pub(super) fn hold<T>(&self, work: impl FnOnce() -> Result<T, GpuError>) -> Held<T> {
        Held(self.attempt(work))
    }
}
