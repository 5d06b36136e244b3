//! How a GPU is.

use std::time::Duration;

use weft_proto::v1;

use crate::gpu_health::xid::Xid;
use crate::gpu_health::{GpuHealth, MOST_XIDS, Slowdown};

impl From<GpuHealth> for v1::GpuHealth {
    fn from(from: GpuHealth) -> Self {
        Self {
            age_millis: u64::try_from(from.age.as_millis()).unwrap_or(u64::MAX),
            xids: from.xids.iter().map(|xid| xid.0).collect(),
            uncorrected_ecc: from.uncorrected_ecc,
            remap_failed: from.remap_failed,
            remap_pending: from.remap_pending,
            hardware_slowdown: from.slowdown.hardware,
            thermal_slowdown: from.slowdown.thermal,
            power_brake: from.slowdown.power_brake,
            celsius: from.celsius,
            lost: from.lost,
        }
    }
}

impl From<v1::GpuHealth> for GpuHealth {
    fn from(from: v1::GpuHealth) -> Self {
        Self {
            age: Duration::from_millis(from.age_millis),
            xids: from.xids.into_iter().take(MOST_XIDS).map(Xid).collect(),
            uncorrected_ecc: from.uncorrected_ecc,
            remap_failed: from.remap_failed,
            remap_pending: from.remap_pending,
            slowdown: Slowdown {
                hardware: from.hardware_slowdown,
                thermal: from.thermal_slowdown,
                power_brake: from.power_brake,
            },
            celsius: from.celsius,
            lost: from.lost,
        }
    }
}
