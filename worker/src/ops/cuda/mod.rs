//! The CUDA backend's kernels, one file an op. Each does what [`super::Ops`] says of it, on 16-bit activations with
//! arithmetic in f32; the CPU backend is the reference that tests compare with.
//!
//! Methods check lengths, launch, and return: errors of the work itself show at the next synchronisation.

#![allow(
    unsafe_code,
    reason = "launches: each names the kernel's argument list and checks the lengths that it relies on"
)]

mod accumulate;
mod adamw;
mod attention;
mod cross_entropy;
mod gemm;
mod glu;
mod nf4;
mod norm;
mod rope;
mod rows;

pub use accumulate::{DeviceDigest, DeviceSums};
pub use adamw::{DeviceAdamW, DeviceTensor, MomentKind};
pub use attention::{DeviceAttention, DeviceDocuments};
pub use gemm::{Gemm, Lay, Product, ProductOut};
pub use nf4::DeviceNf4;
pub use rows::DeviceRows;

use cudarc::driver::{CudaFunction, CudaSlice, DriverError, LaunchConfig};
use half::bf16;

use crate::cuda::{Gpu, GpuError};

/// Activations on the device.
pub type Halves = CudaSlice<bf16>;

/// Elements that a thread moves at once; widths are multiples of it.
const VECTOR: usize = 8;

/// All kernels, loaded, and the GPU that they run on.
#[derive(Debug)]
pub struct CudaKernels {
    gpu: Gpu,
    accumulate_fixed: CudaFunction,
    add_bias: CudaFunction,
    clip_and_adamw: CudaFunction,
    cross_entropy: CudaFunction,
    gather_rows: CudaFunction,
    glu_backward: CudaFunction,
    glu_forward: CudaFunction,
    nf4_dequantize: CudaFunction,
    rms_norm_backward: CudaFunction,
    rms_norm_forward: CudaFunction,
    rope: CudaFunction,
    scatter_rows: CudaFunction,
    sum_digests: CudaFunction,
    sum_losses: CudaFunction,
}

impl CudaKernels {
    /// Finds all kernels in the GPU's loaded code.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: Gpu) -> Result<Self, GpuError> {
        Ok(Self {
            accumulate_fixed: gpu.kernel("accumulate", "accumulate_fixed")?,
            add_bias: gpu.kernel("rows", "add_bias")?,
            clip_and_adamw: gpu.kernel("adamw", "clip_and_adamw")?,
            cross_entropy: gpu.kernel("cross_entropy", "cross_entropy")?,
            gather_rows: gpu.kernel("rows", "gather_rows")?,
            glu_backward: gpu.kernel("glu", "glu_backward")?,
            glu_forward: gpu.kernel("glu", "glu_forward")?,
            nf4_dequantize: gpu.kernel("nf4", "nf4_dequantize")?,
            rms_norm_backward: gpu.kernel("norm", "rms_norm_backward")?,
            rms_norm_forward: gpu.kernel("norm", "rms_norm_forward")?,
            rope: gpu.kernel("rope", "rope")?,
            scatter_rows: gpu.kernel("rows", "scatter_rows")?,
            sum_digests: gpu.kernel("accumulate", "sum_digests")?,
            sum_losses: gpu.kernel("cross_entropy", "sum_losses")?,
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
