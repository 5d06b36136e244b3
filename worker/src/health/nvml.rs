//! NVIDIA's management library, which comes with the driver.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{
    NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING,
};
use nvml_wrapper::{Device, EventSet, Nvml};
use tracing::debug;
use weft_common::gpu_health::xid::Xid;
use weft_common::gpu_health::{GpuHealth, MOST_XIDS, Slowdown};

use super::HealthSource;
use crate::cuda::library::{Component, Environment};
use crate::cuda::uuid;

/// What the driver package calls it, and what a development package does.
const NAMES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

/// One GPU as the library knows it.
struct NvmlGpu {
    device: Device<'static>,
    /// Tells of errors as they come; nothing where the driver does not.
    events: Option<EventSet<'static>>,
}

/// The GPU that CUDA counts as `ordinal`, by its UUID: the library counts otherwise.
pub(super) fn open(ordinal: usize) -> Option<Box<dyn HealthSource>> {
    let nvml = library()?;
    match uuid(ordinal).and_then(|uuid| NvmlGpu::find(nvml, &uuid)) {
        Ok(gpu) => Some(Box::new(gpu)),
        Err(why) => {
            debug!(ordinal, why, "the GPU's health is not watched");
            None
        }
    }
}

/// The library, opened once. It stays to the end of the process.
fn library() -> Option<&'static Nvml> {
    static LIBRARY: OnceLock<Option<Nvml>> = OnceLock::new();
    let opened = LIBRARY.get_or_init(|| {
        let mut why = NvmlError::LibraryNotFound;
        for path in files(&Environment::of_process()) {
            match Nvml::builder().lib_path(OsStr::new(&path)).init() {
                Ok(nvml) => return Some(nvml),
                // A file that is not there says less than one that is.
                Err(NvmlError::LibloadingError(_)) => {}
                Err(error) => why = error,
            }
        }
        debug!(%why, "no NVML: the GPU's health is not watched");
        None
    });
    opened.as_ref()
}

/// It lies beside the driver.
fn files(environment: &Environment) -> Vec<PathBuf> {
    let places = environment.places(Component::Driver);
    let files = places
        .iter()
        .flat_map(|place| NAMES.map(|name| place.folder.join(name)));
    files.collect()
}

/// Tells of errors as they come. What came before is not told.
fn events(nvml: &'static Nvml, device: &Device<'static>) -> Option<EventSet<'static>> {
    let wanted = EventTypes::CRITICAL_XID_ERROR;
    let set = nvml.create_event_set();
    let set = set.and_then(|set| {
        let registered = device.register_events(wanted, set);
        registered.map_err(|error| error.error)
    });
    set.inspect_err(|error| debug!(%error, "the driver does not tell of the GPU's errors"))
        .ok()
}

impl HealthSource for NvmlGpu {
    fn look(&mut self, patience: Duration, health: &mut GpuHealth) -> Result<(), String> {
        self.wait(patience, health);
        let device = &self.device;
        let mut answers = Answers::default();
        let celsius = device.temperature(TemperatureSensor::Gpu);
        let ecc = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        let reasons = device.current_throttle_reasons();
        health.celsius = answers.take(celsius);
        health.uncorrected_ecc = answers.take(ecc).unwrap_or(health.uncorrected_ecc);
        health.slowdown = answers.take(reasons).map(slowdown).unwrap_or_default();
        if let Some((failed, pending)) = answers.take(remapping(device)) {
            health.remap_failed = failed;
            health.remap_pending = pending;
        }
        health.lost |= answers.lost;
        match answers.other {
            Some(error) if !answers.any => Err(error.to_string()),
            Some(_) | None => Ok(()),
        }
    }
}

impl NvmlGpu {
    fn find(nvml: &'static Nvml, uuid: &str) -> Result<Self, String> {
        let device = nvml.device_by_uuid(uuid);
        let device = device.map_err(|error| format!("{uuid}: {error}"))?;
        Ok(Self {
            events: events(nvml, &device),
            device,
        })
    }

    /// Waits for an error of the driver, and takes in all that are there.
    fn wait(&mut self, patience: Duration, health: &mut GpuHealth) {
        let Some(events) = &self.events else {
            return std::thread::sleep(patience);
        };
        let mut millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        for _ in 0..MOST_XIDS {
            match events.wait(millis) {
                Ok(event) => match event.event_data {
                    Some(XidError::Value(code)) => {
                        health.saw(Xid(u32::try_from(code).unwrap_or(u32::MAX)));
                    }
                    Some(XidError::Unknown) | None => {}
                },
                Err(NvmlError::Timeout) => return,
                Err(NvmlError::GpuLost) => {
                    health.lost = true;
                    self.events = None;
                    return;
                }
                Err(error) => {
                    debug!(%error, "the driver tells no more of the GPU's errors");
                    self.events = None;
                    return;
                }
            }
            millis = 0;
        }
    }
}

/// What came of several questions.
#[derive(Default)]
struct Answers {
    /// Whether one was answered, be it that the GPU has no such thing.
    any: bool,
    /// Whether the GPU cannot be reached.
    lost: bool,
    /// Another error.
    other: Option<NvmlError>,
}

impl Answers {
    fn take<T>(&mut self, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(value) => {
                self.any = true;
                return Some(value);
            }
            Err(NvmlError::GpuLost | NvmlError::ResetRequired) => self.lost = true,
            // A driver may be older than the question.
            Err(
                NvmlError::NotSupported
                | NvmlError::FunctionNotFound
                | NvmlError::FailedToLoadSymbol(_),
            ) => self.any = true,
            Err(error) => self.other = Some(error),
        }
        None
    }
}

fn slowdown(reasons: ThrottleReasons) -> Slowdown {
    Slowdown {
        hardware: reasons.contains(ThrottleReasons::HW_SLOWDOWN),
        thermal: reasons.contains(ThrottleReasons::HW_THERMAL_SLOWDOWN),
        power_brake: reasons.contains(ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN),
    }
}

/// Whether rows could not be replaced, and whether the next reset replaces some.
fn remapping(device: &Device<'_>) -> Result<(bool, bool), NvmlError> {
    let fields = [NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING].map(FieldId);
    let mut is = [false; 2];
    for (is, sample) in is.iter_mut().zip(device.field_values_for(&fields)?) {
        *is = is_some(&sample?.value?);
    }
    let [failed, pending] = is;
    Ok((failed, pending))
}

fn is_some(value: &SampleValue) -> bool {
    match value {
        SampleValue::U32(number) => *number > 0,
        SampleValue::U64(number) => *number > 0,
        SampleValue::I64(number) => *number > 0,
        SampleValue::F64(number) => *number > 0.0,
    }
}

#[cfg(test)]
mod tests;
