//! cuBLASLt, loaded.

#![allow(unsafe_code, reason = "calls into a C library")]

use std::path::Path;

use super::library::{self, Component, Environment, Missing, Opened, Origin};

/// The library of matrix products.
#[derive(Debug)]
pub struct CublasLt {
    version: usize,
    opened: Opened,
}

impl CublasLt {
    /// Finds and loads the library. One that is newer than CUDA `newest_major`, what the driver knows, is passed over.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn find(environment: &Environment, newest_major: Option<u32>) -> Result<Self, Missing> {
        library::open(Component::CublasLt, environment, |opened| {
            // SAFETY: the type is that of cublasLt.h.
            let version: unsafe extern "C" fn() -> usize =
                unsafe { opened.function("cublasLtGetVersion") }
                    .map_err(|error| error.to_string())?;
            // SAFETY: it takes nothing and needs no initialisation before.
            let version = unsafe { version() };
            let found = Self { version, opened };
            match newest_major {
                Some(newest) if found.version().0 > newest => Err(format!(
                    "it is of CUDA {}, and the driver knows CUDA {newest} at most",
                    found.version().0
                )),
                Some(_) | None => Ok(found),
            }
        })
    }

    /// Major, minor and patch version; the major one is CUDA's.
    #[must_use]
    pub fn version(&self) -> (u32, u32, u32) {
        let number = u32::try_from(self.version).unwrap_or_default();
        // 130101 is 13.1.1 and 120805 is 12.8.5.
        (number / 10_000, number / 100 % 100, number % 100)
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    /// What led to its file.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.opened.origin
    }
}
