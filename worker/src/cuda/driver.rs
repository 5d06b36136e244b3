//! The driver: what it is, and which GPUs it has.

#![allow(unsafe_code, reason = "calls into a C library")]

use std::ffi::c_int;
use std::path::PathBuf;

use cudarc::driver::result::device;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{DriverError, result, sys};

use super::arch::Arch;
use super::library::{self, Component, Environment, Missing, Origin};

/// The driver, loaded. The library stays to the end of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Major and minor version of CUDA that it speaks.
    pub cuda: (u32, u32),
    /// Its own version, as the kernel module says it.
    pub release: Option<String>,
    /// Its file.
    pub path: PathBuf,
    /// What led there.
    pub origin: Origin,
}

/// A GPU, without a context on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFacts {
    /// Its number to the driver.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// What kernels are compiled for.
    pub arch: Arch,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

impl Driver {
    /// Finds and loads the driver.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(environment: &Environment) -> Result<Self, Missing> {
        let driver = library::open(Component::Driver, environment, |opened| {
            // SAFETY: the type is that of cuda.h.
            let version: unsafe extern "C" fn(*mut c_int) -> c_int =
                unsafe { opened.function("cuDriverGetVersion") }
                    .map_err(|error| error.to_string())?;
            let mut number = 0;
            // SAFETY: the call may write the integer and needs no initialisation before.
            let status = unsafe { version(&raw mut number) };
            if status != 0 {
                return Err(format!("cuDriverGetVersion fails with {status}"));
            }
            let number = number.cast_unsigned();
            let driver = Self {
                cuda: (number / 1000, number % 1000 / 10),
                release: release(),
                path: opened.path.clone(),
                origin: opened.origin,
            };
            // Whoever opens `libcuda.so.1` from now on gets this one, whichever folder it lies in.
            std::mem::forget(opened);
            Ok(driver)
        })?;
        // SAFETY: it opens a library that is open already.
        if unsafe { sys::is_culib_present() } {
            return Ok(driver);
        }
        let why = "it is not named libcuda.so.1".to_owned();
        Err(Missing {
            component: Component::Driver,
            unusable: vec![(driver.path, why)],
        })
    }

    /// The GPUs that this process may use.
    ///
    /// # Errors
    /// The driver's.
    pub fn gpus(&self) -> Result<Vec<GpuFacts>, DriverError> {
        result::init()?;
        (0..device::get_count()?).map(facts).collect()
    }
}

/// What management tools call the GPU of this number: `GPU-` and 16 bytes in five groups.
///
/// # Errors
/// The driver's, in words.
pub fn uuid(ordinal: usize) -> Result<String, String> {
    let number = c_int::try_from(ordinal).map_err(|error| error.to_string())?;
    let bytes = device::get(number).and_then(device::get_uuid);
    let bytes = bytes.map_err(|error| format!("GPU {ordinal} has no UUID: {error}"))?;
    let bytes = bytes.bytes.map(i8_to_u8);
    Ok(format!("GPU-{}", uuid::Uuid::from_bytes(bytes)))
}

fn i8_to_u8(byte: std::ffi::c_char) -> u8 {
    byte.to_ne_bytes()[0]
}

fn facts(ordinal: c_int) -> Result<GpuFacts, DriverError> {
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as MULTIPROCESSORS,
    };
    let device = device::get(ordinal)?;
    // SAFETY: the device was just given by the driver.
    let attribute = |which| unsafe { device::get_attribute(device, which) }.map(i32::cast_unsigned);
    Ok(GpuFacts {
        ordinal: usize::try_from(ordinal).unwrap_or_default(),
        name: device::get_name(device)?,
        arch: Arch::of_gpu(attribute(MAJOR)?, attribute(MINOR)?),
        // SAFETY: as above.
        memory_bytes: unsafe { device::total_mem(device) }? as u64,
        multiprocessors: attribute(MULTIPROCESSORS)?,
    })
}

/// The kernel module's version: the first word with two dots or one of `/proc/driver/nvidia/version`.
fn release() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines()
        .next()?
        .split_whitespace()
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}
