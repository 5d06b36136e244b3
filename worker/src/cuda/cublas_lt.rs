//! cuBLASLt, loaded.

#![allow(unsafe_code, reason = "calls into a C library")]

use std::ffi::{c_int, c_void};

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtMatmulAlgo_t, cublasLtMatmulHeuristicResult_t, cudaDataType_t,
};

use super::library::{self, Component, Environment, Missing, Opened};

/// What calls return: 0 is success.
pub(crate) type Status = c_int;
/// A handle, description, layout or preference; the library's own.
pub(crate) type Opaque = *mut c_void;

/// The library of matrix products.
#[derive(Debug)]
pub struct CublasLt {
    functions: Functions,
    version: usize,
    opened: Opened,
}

/// The functions used, with the types of cublasLt.h.
#[derive(Debug)]
pub(crate) struct Functions {
    pub(crate) create: unsafe extern "C" fn(*mut Opaque) -> Status,
    pub(crate) destroy: unsafe extern "C" fn(Opaque) -> Status,
    pub(crate) desc_create:
        unsafe extern "C" fn(*mut Opaque, cublasComputeType_t, cudaDataType_t) -> Status,
    pub(crate) desc_set: unsafe extern "C" fn(Opaque, u32, *const c_void, usize) -> Status,
    pub(crate) desc_destroy: unsafe extern "C" fn(Opaque) -> Status,
    pub(crate) layout_create:
        unsafe extern "C" fn(*mut Opaque, cudaDataType_t, u64, u64, i64) -> Status,
    pub(crate) layout_destroy: unsafe extern "C" fn(Opaque) -> Status,
    pub(crate) preference_create: unsafe extern "C" fn(*mut Opaque) -> Status,
    pub(crate) preference_set: unsafe extern "C" fn(Opaque, u32, *const c_void, usize) -> Status,
    pub(crate) preference_destroy: unsafe extern "C" fn(Opaque) -> Status,
    pub(crate) heuristic: unsafe extern "C" fn(
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        c_int,
        *mut cublasLtMatmulHeuristicResult_t,
        *mut c_int,
    ) -> Status,
    pub(crate) algo_check: unsafe extern "C" fn(
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        Opaque,
        *const cublasLtMatmulAlgo_t,
        *mut cublasLtMatmulHeuristicResult_t,
    ) -> Status,
    pub(crate) matmul: unsafe extern "C" fn(
        Opaque,
        Opaque,
        *const c_void,
        *const c_void,
        Opaque,
        *const c_void,
        Opaque,
        *const c_void,
        *const c_void,
        Opaque,
        *mut c_void,
        Opaque,
        *const cublasLtMatmulAlgo_t,
        *mut c_void,
        usize,
        Opaque,
    ) -> Status,
}

impl CublasLt {
    /// Finds and loads the library. One that is newer than CUDA `newest_major`, what the driver knows, is passed over.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn find(environment: &Environment, newest_major: Option<u32>) -> Result<Self, Missing> {
        library::open(Component::CublasLt, environment, |opened| {
            let found = Self::load(opened).map_err(|error| error.to_string())?;
            match newest_major {
                Some(newest) if found.version().0 > newest => Err(format!(
                    "it is of CUDA {}, and the driver knows CUDA {newest} at most",
                    found.version().0
                )),
                Some(_) | None => Ok(found),
            }
        })
    }

    fn load(opened: Opened) -> Result<Self, libloading::Error> {
        // SAFETY: the types are those of cublasLt.h; `opened` lives as long as the functions, in the same struct.
        let (functions, version): (_, unsafe extern "C" fn() -> usize) = unsafe {
            let functions = Functions {
                create: opened.function("cublasLtCreate")?,
                destroy: opened.function("cublasLtDestroy")?,
                desc_create: opened.function("cublasLtMatmulDescCreate")?,
                desc_set: opened.function("cublasLtMatmulDescSetAttribute")?,
                desc_destroy: opened.function("cublasLtMatmulDescDestroy")?,
                layout_create: opened.function("cublasLtMatrixLayoutCreate")?,
                layout_destroy: opened.function("cublasLtMatrixLayoutDestroy")?,
                preference_create: opened.function("cublasLtMatmulPreferenceCreate")?,
                preference_set: opened.function("cublasLtMatmulPreferenceSetAttribute")?,
                preference_destroy: opened.function("cublasLtMatmulPreferenceDestroy")?,
                heuristic: opened.function("cublasLtMatmulAlgoGetHeuristic")?,
                algo_check: opened.function("cublasLtMatmulAlgoCheck")?,
                matmul: opened.function("cublasLtMatmul")?,
            };
            (functions, opened.function("cublasLtGetVersion")?)
        };
        Ok(Self {
            functions,
            // SAFETY: it takes nothing and needs no initialisation before.
            version: unsafe { version() },
            opened,
        })
    }

    /// The library's functions.
    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Major, minor and patch version; the major one is CUDA's.
    #[must_use]
    pub fn version(&self) -> (u32, u32, u32) {
        let number = u32::try_from(self.version).unwrap_or_default();
        // 130101 is 13.1.1 and 120805 is 12.8.5.
        (number / 10_000, number / 100 % 100, number % 100)
    }

    /// Its file, and what led there.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }
}
