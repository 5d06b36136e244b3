//! A GPU whose errors a test makes, by a failpoint.

use std::thread;
use std::time::Duration;

use weft_common::failpoint;
use weft_common::gpu_health::GpuHealth;
use weft_common::gpu_health::xid::Xid;

use super::HealthSource;

/// A test waits for what this brings.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Has the errors of `WEFT_FAILPOINT`.
pub(super) struct Scripted;

impl HealthSource for Scripted {
    fn look(&mut self, patience: Duration, health: &mut GpuHealth) -> Result<(), String> {
        thread::sleep(patience);
        failpoint::hit("gpu-looked");
        if let Some(code) = failpoint::gpu_error() {
            health.saw(Xid(code));
        }
        Ok(())
    }
}
