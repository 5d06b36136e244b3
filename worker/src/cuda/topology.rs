//! How the GPUs of a machine reach each other.

#![allow(unsafe_code, reason = "calls into a C library")]

use std::ffi::c_int;
use std::fmt;

use cudarc::driver::result::device;
use cudarc::driver::sys::{
    self, CUdevice, CUdevice_P2PAttribute_enum::CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED,
};
use cudarc::driver::{DriverError, result};

/// How one GPU reaches another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is the same.
    Own,
    /// Over NVLink: the memory of the other can be computed on.
    NvLink,
    /// Over PCI Express: the memory of the other can be read and written.
    Pcie,
    /// Through the host's memory only.
    Host,
}

impl Link {
    /// What the driver's answers mean: PCI Express has no atomic operations on a peer's memory.
    fn of(can_access: bool, has_atomics: bool) -> Self {
        match (can_access, has_atomics) {
            (true, true) => Self::NvLink,
            (true, false) => Self::Pcie,
            (false, _) => Self::Host,
        }
    }
}

/// `NVLINK`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Own => "-",
            Self::NvLink => "NVLINK",
            Self::Pcie => "PCIE",
            Self::Host => "HOST",
        })
    }
}

/// How each of the first `count` GPUs reaches each. The driver must be loaded.
///
/// # Errors
/// The driver's.
pub fn links(count: usize) -> Result<Vec<Vec<Link>>, DriverError> {
    result::init()?;
    let count = c_int::try_from(count).unwrap_or(c_int::MAX);
    let devices: Vec<CUdevice> = (0..count).map(device::get).collect::<Result<_, _>>()?;
    let row = |from: &CUdevice| devices.iter().map(|to| link(*from, *to)).collect();
    devices.iter().map(row).collect()
}

fn link(from: CUdevice, to: CUdevice) -> Result<Link, DriverError> {
    if from == to {
        return Ok(Link::Own);
    }
    let (mut can_access, mut has_atomics) = (0, 0);
    // SAFETY: both devices were given by the driver, and the integers may be written.
    unsafe {
        sys::cuDeviceCanAccessPeer(&raw mut can_access, from, to).result()?;
        let which = CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED;
        sys::cuDeviceGetP2PAttribute(&raw mut has_atomics, which, from, to).result()?;
    }
    Ok(Link::of(can_access != 0, has_atomics != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomics_on_a_peers_memory_tell_nvlink_from_pci_express() {
        assert_eq!(Link::of(true, true), Link::NvLink);
        assert_eq!(Link::of(true, false), Link::Pcie);
        assert_eq!(Link::of(false, false), Link::Host);
        assert_eq!(format!("{:<7}|", Link::NvLink), "NVLINK |");
    }
}
