//! NCCL: what GPUs sum over each other with.
//!
//! [`Nccl`] is the library, found and opened by path, with a table of the few functions that are used: cudarc's own
//! bindings look for it by name and cannot be told which one. [`Comm`] is a communicator, call by call; what waits and gives
//! up is [`collective::nccl`](crate::collective::nccl).

#![allow(unsafe_code, reason = "calls into a C library")]

mod comm;
mod functions;
mod version;

use std::fmt;

pub use comm::{Comm, DeviceSum, Element, Status};
pub use functions::{ID_WORDS, UniqueId};
pub use version::Version;

use functions::Functions;
use version::OLDEST;

use super::library::{self, Component, Environment, Missing, Opened};

/// The library of collectives between GPUs.
#[derive(Debug)]
pub struct Nccl {
    version: Version,
    functions: Functions,
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
            Ok(Self {
                version,
                functions: Functions::of(&opened)?,
                opened,
            })
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
        self.version.remedied_by().map(|first_good| {
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

impl fmt::Display for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NCCL {} of {}", self.version, self.opened.path.display())
    }
}

#[cfg(test)]
mod tests {
    use crate::collective::nccl::Stub;

    #[test]
    fn a_library_tells_its_version_and_versions_that_crash_are_warned_of() {
        for (number, version, bad) in [
            (21_800, "2.18.0", false),
            (22_803, "2.28.3", true),
            (22_808, "2.28.8", true),
            (22_809, "2.28.9", false),
            (23_203, "2.32.3", false),
        ] {
            let Some(stub) = Stub::with(&[&format!("-DVERSION={number}")]) else {
                return;
            };
            let nccl = stub.find().unwrap();
            assert_eq!(nccl.version().to_string(), version);
            assert_eq!(nccl.version().number(), number);
            assert_eq!(nccl.warning().is_some(), bad, "{version}");
        }
    }

    #[test]
    fn a_library_that_is_too_old_is_named_with_what_is_needed() {
        let Some(stub) = Stub::with(&["-DVERSION=2708"]) else {
            return;
        };
        let missing = stub.find().unwrap_err().to_string();
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
