//! NCCL, found: what GPUs sum over each other with.

#![allow(unsafe_code, reason = "calls into a C library")]

use std::ffi::c_int;
use std::fmt;

use super::library::{self, Component, Environment, Missing, Opened};

/// The oldest version with all that is needed: communicators that form without blocking, and can be aborted meanwhile.
const OLDEST: Version = Version(2, 18, 0);

/// The first version that crashes when a communicator is aborted and formed anew in one process, and the first that does so
/// no more: NVIDIA's resiliency extension refuses those between.
const CRASHING: (Version, Version) = (Version(2, 28, 3), Version(2, 28, 9));

/// A version of NCCL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

/// The library of collectives between GPUs.
#[derive(Debug)]
pub struct Nccl {
    version: Version,
    opened: Opened,
}

impl Nccl {
    /// Finds and loads the library. One that is too old is passed over.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn find(environment: &Environment) -> Result<Self, Missing> {
        library::open(Component::Nccl, environment, |opened| {
            let version = Version::of(&opened)?;
            if version < OLDEST {
                return Err(format!("it is version {version}, and {OLDEST} is needed"));
            }
            Ok(Self { version, opened })
        })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Why another version would be better, where this one is known to be bad.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let (first_bad, first_good) = CRASHING;
        (first_bad..first_good).contains(&self.version).then(|| {
            format!(
                "NCCL {} crashes where a communicator is aborted and formed anew; take {first_good} or newer",
                self.version
            )
        })
    }

    /// Its file, and what led there.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl Version {
    fn of(opened: &Opened) -> Result<Self, String> {
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
    fn from_number(number: u32) -> Self {
        let major = if number < 10_000 { 1000 } else { 10_000 };
        Self(number / major, number % major / 100, number % 100)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// NCCL in a folder of its own: a library that only tells its version. Nothing where there is no C compiler.
    fn stub(number: u32) -> Option<Result<Nccl, Missing>> {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("stub.c");
        let text = format!("int ncclGetVersion(int *v) {{ *v = {number}; return 0; }}\n");
        std::fs::write(&source, text).unwrap();
        let library = folder.path().join("libnccl.so.2");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("SKIPPED: there is no C compiler to make a stand-in for NCCL with");
            return None;
        }
        Some(Nccl::find(&Environment::of_folder(folder.path())))
    }

    #[test]
    fn a_library_tells_its_version_and_versions_that_crash_are_warned_of() {
        for (number, version, bad) in [
            (21_800, "2.18.0", false),
            (22_803, "2.28.3", true),
            (22_808, "2.28.8", true),
            (22_809, "2.28.9", false),
            (23_203, "2.32.3", false),
        ] {
            let Some(found) = stub(number) else { return };
            let nccl = found.unwrap();
            assert_eq!(nccl.version().to_string(), version);
            assert_eq!(nccl.warning().is_some(), bad, "{version}");
        }
    }

    #[test]
    fn a_library_that_is_too_old_is_named_with_what_is_needed() {
        let Some(found) = stub(2_708) else { return };
        let missing = found.unwrap_err().to_string();
        for part in [
            "libnccl.so.2",
            "version 2.7.8",
            "2.18.0 is needed",
            "pip install",
        ] {
            assert!(missing.contains(part), "{part} is missing in {missing}");
        }
    }
}
