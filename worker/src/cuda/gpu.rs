//! A GPU with the kernels loaded.

#![allow(
    unsafe_code,
    reason = "one call of cudarc's whose promise is kept by this module"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::nvrtc::Ptx;

use super::arch::Arch;
use super::compiler::Compiler;
use super::half_format::HalfFormat;
use super::kernels;
use super::nvrtc::NvrtcError;

/// A device, its one stream, and the kernels' code on it.
///
/// All work goes through the one stream, so that it happens in the order in which it is asked for.
#[derive(Debug, Clone)]
pub struct Gpu {
    stream: Arc<CudaStream>,
    modules: Arc<BTreeMap<&'static str, Arc<CudaModule>>>,
    arch: Arch,
    half: HalfFormat,
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
    /// A matrix product.
    #[error("{call}{product} fails with cuBLAS status {status}")]
    Product {
        /// Which of the library's calls.
        call: &'static str,
        /// Of what shape; empty where the call is not about one.
        product: String,
        /// The library's error.
        status: i32,
    },
    /// A kernel does not compile.
    #[error(transparent)]
    Kernel(#[from] NvrtcError),
}

impl GpuError {
    /// Whether there was no room on the device.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Driver { error, .. } => error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY,
            Self::Product { .. } | Self::Kernel(_) => false,
        }
    }
}

impl Gpu {
    /// Opens a GPU: makes a context on it, some 0.5 GB of its memory, and loads the kernels, attention for these head
    /// sizes among them, compiled where the cache lacks them. Their 16-bit format is `half`, or the GPU's own.
    ///
    /// # Errors
    /// The driver's or the compiler's.
    ///
    /// # Panics
    /// If the driver's library was not found before ([`super::Inventory::take`]), or the GPU has no such format.
    pub fn open(
        ordinal: usize,
        compiler: &Compiler,
        head_dims: &[usize],
        half: Option<HalfFormat>,
    ) -> Result<Self, GpuError> {
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
        let native = HalfFormat::of(arch);
        let half = half.unwrap_or(native);
        assert!(
            half == HalfFormat::F16 || half == native,
            "{half} on {arch}"
        );
        let multiprocessors = context
            .attribute(
                cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )
            .map_err(failed("asking for its multiprocessors"))?
            .cast_unsigned();
        let mut modules = BTreeMap::new();
        let attention = head_dims
            .iter()
            .flat_map(|&head_dim| kernels::attention(arch, head_dim));
        let files = kernels::common().chain(attention);
        for prepared in compiler.prepare_files((arch, half), files)? {
            let module = context
                .load_module(Ptx::from_binary(prepared.cubin))
                .map_err(failed("loading kernels"))?;
            modules.insert(prepared.kernel.name, module);
        }
        Ok(Self {
            stream: context.new_stream().map_err(failed("making a stream"))?,
            modules: Arc::new(modules),
            arch,
            half,
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

    /// What the bits of 16-bit matrices mean.
    #[must_use]
    pub fn half(&self) -> HalfFormat {
        self.half
    }

    /// How many multiprocessors it has.
    #[must_use]
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Whether a file of kernels is loaded.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        self.modules.contains_key(file)
    }

    /// A kernel by file and name.
    ///
    /// # Errors
    /// The driver's: the file has no kernel of that name.
    ///
    /// # Panics
    /// If the file was not loaded.
    pub fn kernel(&self, file: &str, name: &str) -> Result<CudaFunction, GpuError> {
        let module = self
            .modules
            .get(file)
            .expect("the file was loaded when the GPU was opened");
        module
            .load_function(name)
            .map_err(|error| GpuError::Driver {
                ordinal: self.stream.context().ordinal(),
                doing: "finding a kernel",
                error,
            })
    }
}
