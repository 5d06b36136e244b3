//! A GPU with the kernels loaded.

#![allow(
    unsafe_code,
    reason = "one call of cudarc's whose promise is kept by this module"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::nvrtc::Ptx;

use super::arch::Arch;
use super::compiler::Compiler;
use super::nvrtc::NvrtcError;

/// A device, its one stream, and the kernels' code on it.
///
/// All work goes through the one stream, so that it happens in the order in which it is asked for.
#[derive(Debug, Clone)]
pub struct Gpu {
    stream: Arc<CudaStream>,
    modules: Arc<BTreeMap<&'static str, Arc<CudaModule>>>,
    arch: Arch,
    multiprocessors: u32,
}

/// What a GPU refused.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The driver.
    #[error("GPU {ordinal}: {doing} fails: {error:?}")]
    Driver {
        /// Which GPU.
        ordinal: usize,
        /// During what.
        doing: &'static str,
        /// The driver's error.
        error: DriverError,
    },
    /// A kernel does not compile.
    #[error(transparent)]
    Kernel(#[from] NvrtcError),
}

impl Gpu {
    /// Opens a GPU: makes a context on it, some 0.5 GB of its memory, and loads the kernels, compiled where the cache
    /// lacks them.
    ///
    /// # Errors
    /// The driver's or the compiler's.
    ///
    /// # Panics
    /// If the driver's library was not found before ([`super::Inventory::take`]).
    pub fn open(ordinal: usize, compiler: &Compiler) -> Result<Self, GpuError> {
        let failed = |doing| {
            move |error| GpuError::Driver {
                ordinal,
                doing,
                error,
            }
        };
        let context = CudaContext::new(ordinal).map_err(failed("making a context"))?;
        // SAFETY: everything goes through one stream, which orders it; there is nothing to track.
        unsafe { context.disable_event_tracking() };
        let (major, minor) = context
            .compute_capability()
            .map_err(failed("asking for its generation"))?;
        let arch = Arch::of_gpu(major.cast_unsigned(), minor.cast_unsigned());
        let multiprocessors = context
            .attribute(
                cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )
            .map_err(failed("asking for its multiprocessors"))?
            .cast_unsigned();
        let mut modules = BTreeMap::new();
        for prepared in compiler.prepare(arch)? {
            let module = context
                .load_module(Ptx::from_binary(prepared.cubin))
                .map_err(failed("loading kernels"))?;
            modules.insert(prepared.kernel.name, module);
        }
        Ok(Self {
            stream: context.new_stream().map_err(failed("making a stream"))?,
            modules: Arc::new(modules),
            arch,
            multiprocessors,
        })
    }

    /// The stream that all work goes through.
    #[must_use]
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// What the kernels are compiled for.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// How many multiprocessors it has.
    #[must_use]
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// A kernel by file and name.
    ///
    /// # Errors
    /// The driver's: the file has no kernel of that name.
    ///
    /// # Panics
    /// If there is no such file for this GPU.
    pub fn kernel(&self, file: &'static str, name: &str) -> Result<CudaFunction, GpuError> {
        let module = self
            .modules
            .get(file)
            .expect("kernel files are listed in kernels::ALL");
        module
            .load_function(name)
            .map_err(|error| GpuError::Driver {
                ordinal: self.stream.context().ordinal(),
                doing: "finding a kernel",
                error,
            })
    }
}
