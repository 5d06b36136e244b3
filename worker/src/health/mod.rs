//! How this worker's GPU is, read from its driver beside the training.
//!
//! Calls into the driver's management library can block for seconds, and for ever where a GPU is broken. So one thread
//! makes them all ([`Monitor`]), and everybody else sees what it read last, and how old that is.

mod monitor;
mod nvml;
mod scripted;

pub use monitor::Monitor;

use std::time::Duration;

use weft_common::failpoint;
use weft_common::gpu_health::GpuHealth;

use crate::device::Device;

/// Between two looks at a GPU, where no error is reported meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What knows how a GPU is.
pub trait HealthSource: Send {
    /// Waits for `patience`, or for less where the driver reports an error, then brings `health` up to date. Errors that
    /// were reported before stay in it.
    ///
    /// # Errors
    /// The driver does not say how the GPU is; `health` has what came before that.
    fn look(&mut self, patience: Duration, health: &mut GpuHealth) -> Result<(), String>;
}

/// Watches a device, from now on until the last copy of the monitor is dropped; nothing where it is no GPU or its driver
/// has no management library. Returns once it was looked at, or a driver that hangs has had its time.
#[must_use]
pub fn watch(device: &Device) -> Option<Monitor> {
    if failpoint::gives_errors() {
        let source: Box<dyn HealthSource> = Box::new(scripted::Scripted);
        return Monitor::start(move || Some(source), scripted::LOOK_EVERY);
    }
    match device {
        Device::Cpu { .. } => None,
        Device::Cuda { gpu, .. } => {
            let ordinal = gpu.ordinal;
            Monitor::start(move || nvml::open(ordinal), LOOK_EVERY)
        }
    }
}
