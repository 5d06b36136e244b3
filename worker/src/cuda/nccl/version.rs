//! Versions of NCCL.

use std::ffi::c_int;
use std::fmt;

use crate::cuda::library::Opened;

/// The oldest version with all that is needed: communicators that form without blocking, and can be aborted meanwhile.
pub(super) const OLDEST: Version = Version(2, 18, 0);

/// The first version that crashes when a communicator is aborted and formed anew in one process, and the first that does so
/// no more: NVIDIA's resiliency extension refuses those between.
const CRASHING: (Version, Version) = (Version(2, 28, 3), Version(2, 28, 9));

/// A version of NCCL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl Version {
    pub(super) fn of(opened: &Opened) -> Result<Self, String> {
        let mut number: c_int = 0;
        // SAFETY: the type is that of nccl.h; the function writes one number and needs no initialisation before.
        let status = unsafe {
            let get: unsafe extern "C" fn(*mut c_int) -> c_int = opened
                .function("ncclGetVersion")
                .map_err(|error| error.to_string())?;
            get(&raw mut number)
        };
        if status != 0 {
            return Err(format!("ncclGetVersion says error {status}"));
        }
        Ok(Self::from_number(u32::try_from(number).unwrap_or_default()))
    }

    /// 22809 is 2.28.9; before 2.9 it was 2708 for 2.7.8.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        let major = if number < 10_000 { 1000 } else { 10_000 };
        Self(number / major, number % major / 100, number % 100)
    }

    /// The number of a version since 2.9.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0 * 10_000 + self.1 * 100 + self.2
    }

    /// The first version that is as it should be, where this one is known to be bad.
    pub(super) fn remedied_by(self) -> Option<Self> {
        let (first_bad, first_good) = CRASHING;
        (first_bad..first_good)
            .contains(&self)
            .then_some(first_good)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}
