//! The CUDA backend: [`Ops`] over the kernels and products of this folder.
//!
//! Everything goes through one stream, so that ops run in the order in which they are asked for while the host goes on.
//! Buffers are allocated when a trainer makes its room, none within a step but for token ids. What fails is kept and
//! ends the work after it: methods of [`Ops`] give no error, [`Ops::health`] does.

mod fault;
mod linear;
mod link;
mod loss;
mod open;
mod ops;
mod profile;
mod reduce;
mod resident;
mod sizes;
mod state;
mod store;
mod weights;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaSlice, CudaStream};

use super::attention::DeviceAttention;
use super::gemm::Gemm;
use super::{CudaKernels, Halves, Memory, Staging, VECTOR};
use crate::collective::GpuLink;
use crate::cuda::{Compiler, CublasLt, Gpu, GpuError, HalfFormat};
use crate::ops::DeviceError;

pub(crate) use link::link_over;
pub use ops::Held;
pub use profile::OpClass;
pub use sizes::CudaSizes;
pub use state::{CudaState, CudaSums};
pub use store::HostStore;
pub use weights::CudaLinear;

use fault::Fault;
use profile::Profile;
use resident::Resident;

/// What a backend is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaOptions {
    /// Which GPU, as the driver counts.
    pub ordinal: usize,
    /// Width of an attention head.
    pub head_dim: usize,
    /// Rank of the adapters; 0 without.
    pub rank: usize,
    /// The 16-bit number format; the GPU's own where unset.
    pub half: Option<HalfFormat>,
    /// Whether what a step seldom reads or writes lies in host memory: embeddings that are no head, gradient sums, and the
    /// adapter in f32.
    pub lean: bool,
    /// Bytes of device memory that may be in use in all, by the driver's count; all there is where unset.
    pub memory_limit: Option<u64>,
}

/// The CUDA backend on one GPU.
pub struct Cuda {
    kernels: CudaKernels,
    gemm: Gemm,
    attention: DeviceAttention,
    options: CudaOptions,
    fault: Fault,
    profile: Profile,
    /// Dequantized weights of the linears in hand, or logits of the rows in hand.
    scratch: Room,
    /// Dequantized weights that stay.
    resident: Resident,
    /// What losses are summed in.
    losses: Mutex<LossRoom>,
    /// Σ dout·out of each query and head.
    delta: Mutex<CudaSlice<f32>>,
    /// Copies between host and GPU, beside the work.
    copies: Arc<CudaStream>,
    /// Where files are read into, while a model is loaded.
    staging: Mutex<Option<Staging>>,
    /// What sums over several GPUs need.
    link: GpuLink,
    /// Whether products with few vectors read weights as they are stored: decoding.
    by_rows: bool,
}

/// A buffer that grows to the largest use and is lent to one op at a time.
#[derive(Debug, Default)]
struct Room(Mutex<Option<Halves>>);

/// Loss of each row of a chunk, and their sum over all chunks.
#[derive(Debug)]
struct LossRoom {
    of_rows: CudaSlice<f32>,
    sum: CudaSlice<f64>,
}

/// A loss that the device is computing; the last one that was asked for.
#[derive(Debug)]
pub struct CudaLoss(());

impl Cuda {
    /// Opens a GPU for a model and compiles what the cache of kernels lacks.
    ///
    /// # Errors
    /// The GPU's, the compiler's, or the products' library's, with what to do.
    pub fn open(
        compiler: &Compiler,
        products: CublasLt,
        options: CudaOptions,
    ) -> Result<Self, DeviceError> {
        let gpu = Gpu::open(options.ordinal, compiler, &[options.head_dim], options.half)?;
        let kernels = CudaKernels::new(gpu)?;
        let gemm = Gemm::new(&kernels, products)?;
        let attention = DeviceAttention::new(&kernels, options.head_dim)?;
        let stream = kernels.gpu().stream().clone();
        let failed = |error| kernels.during("making room for losses")(error);
        let losses = LossRoom {
            of_rows: stream.alloc_zeros(loss::CHUNK_ROWS).map_err(failed)?,
            sum: stream.alloc_zeros(1).map_err(failed)?,
        };
        let delta = stream.alloc_zeros(1).map_err(failed)?;
        let copies = stream.context().new_stream().map_err(failed)?;
        Ok(Self {
            gemm,
            attention,
            options,
            fault: Fault::default(),
            profile: Profile::default(),
            scratch: Room::default(),
            resident: Resident::default(),
            losses: Mutex::new(losses),
            delta: Mutex::new(delta),
            copies,
            staging: Mutex::default(),
            link: link::link_of(&kernels)?,
            by_rows: false,
            kernels,
        })
    }

    /// The kernels, for measurements.
    #[must_use]
    pub fn kernels(&self) -> &CudaKernels {
        &self.kernels
    }

    /// Products, for measurements.
    #[must_use]
    pub fn gemm(&self) -> &Gemm {
        &self.gemm
    }

    /// Bytes of the GPU's memory in use by everybody, by the driver's count.
    #[must_use]
    pub fn used_memory(&self) -> Option<u64> {
        let context = self.kernels.gpu().stream().context();
        let (free, total) = context.mem_get_info().ok()?;
        Some((total - free) as u64)
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// The driver's.
    pub fn wait(&self) -> Result<(), GpuError> {
        let waited = self.kernels.gpu().stream().synchronize();
        waited.map_err(self.kernels.during("waiting for the GPU"))
    }

    /// Where arrays lie that a step seldom reads or writes.
    fn seldom(&self) -> Memory {
        if self.options.lean {
            Memory::Host
        } else {
            Memory::Device
        }
    }

    /// How it counts memory.
    fn sizes(&self) -> CudaSizes {
        CudaSizes {
            rank: self.options.rank,
            lean: self.options.lean,
        }
    }

    /// Elements from one row to the next of matrices side by side.
    fn stride(&self, widths: &[usize]) -> usize {
        self.sizes().stride(widths)
    }

    /// Spare columns behind every matrix.
    fn tail(&self) -> usize {
        self.sizes().tail()
    }
}

impl Room {
    /// The buffer, of at least `len` elements, for `work`.
    fn with<T>(
        &self,
        kernels: &CudaKernels,
        len: usize,
        work: impl FnOnce(&mut Halves) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let mut room = locked(&self.0);
        let large_enough = |halves: &Halves| halves.width() >= len;
        if !room.as_ref().is_some_and(large_enough) {
            // The old one makes room for the new one.
            *room = None;
            *room = kernels.halves(1, &[len.next_multiple_of(VECTOR)], 0)?.pop();
        }
        let halves = room.as_mut().expect("it was made above");
        work(halves)
    }
}

/// Work that panicked leaves buffers whose contents nobody relies on.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
