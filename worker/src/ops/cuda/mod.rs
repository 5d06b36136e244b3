//! The CUDA backend's kernels, one file an op. Each does what [`super::Ops`] says of it, on 16-bit activations with
//! arithmetic in f32; the CPU backend is the reference that tests compare with.
//!
//! 16-bit matrices are [`Halves`]: views with a row stride, so that matrices lie side by side and rows have room behind
//! them. Methods check lengths, launch, and return: errors of the work itself show at the next synchronisation.

#![allow(
    unsafe_code,
    reason = "launches: each names the kernel's argument list and checks the lengths that it relies on"
)]

mod accumulate;
mod adamw;
mod array;
mod attention;
mod backend;
mod cross_entropy;
mod dequantize;
mod digest;
mod gemm;
mod gemv;
mod glu;
mod halves;
mod nf4;
mod norm;
mod place;
mod quantize;
mod rope;
mod rows;

pub use accumulate::{DeviceDigest, DeviceSums};
pub use adamw::{DeviceAdamW, DeviceTensor, MomentKind};
pub use array::{Array, Memory};
pub use attention::{DeviceAttention, DeviceDocuments};
pub(crate) use backend::link_over;
pub use backend::{
    Cuda, CudaLinear, CudaLoss, CudaOptions, CudaSizes, CudaState, CudaSums, Held, HostStore,
    OpClass,
};
pub use dequantize::{GroupAdapter, GroupMatrix, GroupPart};
pub use digest::DeviceBytes;
pub use gemm::{Add, Gemm, Lay, Product, Tokens};
pub use gemv::{GemvOutput, is_gemv};
pub use halves::{Halves, row_stride};
pub use nf4::DeviceNf4;
pub use place::{Place, PlaceMut};
pub use quantize::{QuantizeError, Staging};
pub use rows::DeviceRows;

use cudarc::driver::{CudaFunction, DriverError, LaunchConfig};

use halves::push_halves;

use crate::cuda::{Gpu, GpuError};

/// Elements that a thread moves at once; widths are multiples of it.
const VECTOR: usize = 8;

/// All kernels, loaded, and the GPU that they run on.
#[derive(Debug)]
pub struct CudaKernels {
    gpu: Gpu,
    absorb_sums: CudaFunction,
    accumulate_fixed: CudaFunction,
    add_bias: CudaFunction,
    clear_rows: CudaFunction,
    clip_and_adamw: CudaFunction,
    copy_rows: CudaFunction,
    cross_entropy: CudaFunction,
    digest_pieces: CudaFunction,
    gather_rows: CudaFunction,
    gemv_group: CudaFunction,
    glu_backward: CudaFunction,
    glu_forward: CudaFunction,
    likeliest: CudaFunction,
    nf4_dequantize_group: CudaFunction,
    nf4_quantize: CudaFunction,
    rms_norm_backward: CudaFunction,
    rms_norm_forward: CudaFunction,
    rope: CudaFunction,
    scatter_rows: CudaFunction,
    sum_digests: CudaFunction,
    sum_losses: CudaFunction,
    sum_pieces: CudaFunction,
}

impl CudaKernels {
    /// Finds all kernels in the GPU's loaded code.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: Gpu) -> Result<Self, GpuError> {
        Ok(Self {
            absorb_sums: gpu.kernel("accumulate", "absorb_sums")?,
            accumulate_fixed: gpu.kernel("accumulate", "accumulate_fixed")?,
            add_bias: gpu.kernel("rows", "add_bias")?,
            clear_rows: gpu.kernel("rows", "clear_rows")?,
            clip_and_adamw: gpu.kernel("adamw", "clip_and_adamw")?,
            copy_rows: gpu.kernel("rows", "copy_rows")?,
            cross_entropy: gpu.kernel("cross_entropy", "cross_entropy")?,
            digest_pieces: gpu.kernel("accumulate", "digest_pieces")?,
            gather_rows: gpu.kernel("rows", "gather_rows")?,
            gemv_group: gpu.kernel("nf4", "gemv_group")?,
            glu_backward: gpu.kernel("glu", "glu_backward")?,
            glu_forward: gpu.kernel("glu", "glu_forward")?,
            likeliest: gpu.kernel("rows", "likeliest")?,
            nf4_dequantize_group: gpu.kernel("nf4", "nf4_dequantize_group")?,
            nf4_quantize: gpu.kernel("quantize", "nf4_quantize")?,
            rms_norm_backward: gpu.kernel("norm", "rms_norm_backward")?,
            rms_norm_forward: gpu.kernel("norm", "rms_norm_forward")?,
            rope: gpu.kernel("rope", "rope")?,
            scatter_rows: gpu.kernel("rows", "scatter_rows")?,
            sum_digests: gpu.kernel("accumulate", "sum_digests")?,
            sum_losses: gpu.kernel("cross_entropy", "sum_losses")?,
            sum_pieces: gpu.kernel("accumulate", "sum_pieces")?,
            gpu,
        })
    }

    /// The GPU.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Names what failed.
    fn during(&self, doing: &'static str) -> impl Fn(DriverError) -> GpuError {
        let ordinal = self.gpu.stream().context().ordinal();
        move |error| GpuError::Driver {
            ordinal,
            doing,
            error,
        }
    }

    /// A grid that fills the GPU some waves deep, no more blocks than there is work for.
    fn strided_grid(&self, items: usize, block: u32) -> LaunchConfig {
        let most = self.gpu.multiprocessors() * 16;
        let needed = u32::try_from(items.div_ceil(block as usize)).unwrap_or(u32::MAX);
        blocks(needed.clamp(1, most), block)
    }
}

/// Blocks of 256 threads that are resident at once.
fn resident_blocks(gpu: &Gpu, kernel: &CudaFunction) -> Result<u32, GpuError> {
    let per_multiprocessor = kernel
        .occupancy_max_active_blocks_per_multiprocessor(256, 0, None)
        .map_err(|error| GpuError::Driver {
            ordinal: gpu.stream().context().ordinal(),
            doing: "asking for a kernel's occupancy",
            error,
        })?;
    Ok((gpu.multiprocessors() * per_multiprocessor).max(1))
}

/// A grid of one dimension.
fn blocks(grid: u32, block: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (grid, 1, 1),
        block_dim: (block, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// A count as kernels take it.
///
/// # Panics
/// If it does not fit; no dimension of a model comes near.
fn count(value: usize) -> u32 {
    u32::try_from(value).expect("dimensions are below 2^32")
}

/// Panics unless `width` is whole vectors.
fn whole_vectors(width: usize) {
    assert!(
        width.is_multiple_of(VECTOR),
        "a width of {width} is no multiple of {VECTOR}"
    );
}
