//! Root-mean-square norm.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::{CudaKernels, Halves, blocks, count, push_halves, whole_vectors};
use crate::cuda::GpuError;
use crate::ops::Norm;

/// Vectors of 8 that a thread of the kernel keeps.
const VECTORS_PER_THREAD: usize = 2;

/// Threads for a row of this width: whole warps, two vectors each.
fn threads(width: usize) -> u32 {
    whole_vectors(width);
    let threads = width.div_ceil(8 * VECTORS_PER_THREAD).next_multiple_of(32);
    assert!(threads <= 1024, "a norm over {width} columns");
    count(threads)
}

impl CudaKernels {
    /// `rstd_t = 1/√(mean(x²) + eps)`, `y_td = x · rstd · weight_d`, both `=`.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small.
    pub fn rms_norm_forward(
        &self,
        norm: Norm<'_, CudaSlice<f32>>,
        x_td: &Halves,
        y_td: &mut Halves,
        rstd_t: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let (tokens, width) = (norm.tokens, norm.width);
        x_td.check("x", tokens, width);
        y_td.check("y", tokens, width);
        assert!(rstd_t.len() >= tokens && norm.weight.len() >= width);
        let width_arg = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.rms_norm_forward);
        push_halves(&mut launch, x_td);
        launch.arg(norm.weight).arg(&norm.eps).arg(&width_arg);
        push_halves(&mut launch, y_td);
        launch.arg(rstd_t);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(count(tokens), threads(width))) }
            .map(drop)
            .map_err(self.during("rms_norm_forward"))
    }

    /// Gradient of the norm for its input: `dx_td += …`. The weight is frozen.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small.
    pub fn rms_norm_backward(
        &self,
        norm: Norm<'_, CudaSlice<f32>>,
        (x_td, rstd_t): (&Halves, &CudaSlice<f32>),
        dy_td: &Halves,
        dx_td: &mut Halves,
    ) -> Result<(), GpuError> {
        let (tokens, width) = (norm.tokens, norm.width);
        x_td.check("x", tokens, width);
        dy_td.check("dy", tokens, width);
        dx_td.check("dx", tokens, width);
        assert!(rstd_t.len() >= tokens && norm.weight.len() >= width);
        let width_arg = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.rms_norm_backward);
        push_halves(&mut launch, x_td);
        launch.arg(rstd_t);
        push_halves(&mut launch, dy_td);
        launch.arg(norm.weight).arg(&width_arg);
        push_halves(&mut launch, dx_td);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(count(tokens), threads(width))) }
            .map(drop)
            .map_err(self.during("rms_norm_backward"))
    }
}
