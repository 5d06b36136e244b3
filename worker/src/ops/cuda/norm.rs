//! Root-mean-square norm.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::{CudaKernels, Halves, blocks, count, whole_vectors};
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
    /// `rstd_t = 1/√(mean(x²) + eps)`, `y_td = x · rstd · weight_d`, both `=`; y's rows are `y_stride` apart.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn rms_norm_forward(
        &self,
        norm: Norm<'_, CudaSlice<f32>>,
        x_td: &Halves,
        (y_td, y_stride): (&mut Halves, usize),
        rstd_t: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let (tokens, width) = (norm.tokens, norm.width);
        whole_vectors(y_stride);
        assert!(
            x_td.len() >= tokens * width && rstd_t.len() >= tokens && norm.weight.len() >= width
        );
        assert!(y_stride >= width && y_td.len() >= (tokens - 1) * y_stride + width);
        let (width_arg, stride) = (count(width), count(y_stride));
        let mut launch = self.gpu.stream().launch_builder(&self.rms_norm_forward);
        launch.arg(x_td).arg(norm.weight).arg(&norm.eps);
        launch.arg(&width_arg).arg(&stride).arg(y_td).arg(rstd_t);
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
    /// If a buffer is too short.
    pub fn rms_norm_backward(
        &self,
        norm: Norm<'_, CudaSlice<f32>>,
        (x_td, rstd_t): (&Halves, &CudaSlice<f32>),
        dy_td: &Halves,
        dx_td: &mut Halves,
    ) -> Result<(), GpuError> {
        let (tokens, width) = (norm.tokens, norm.width);
        let len = tokens * width;
        assert!(x_td.len() >= len && dy_td.len() >= len && dx_td.len() >= len);
        assert!(rstd_t.len() >= tokens && norm.weight.len() >= width);
        let width_arg = count(width);
        let mut launch = self.gpu.stream().launch_builder(&self.rms_norm_backward);
        launch.arg(x_td).arg(rstd_t).arg(dy_td).arg(norm.weight);
        launch.arg(&width_arg).arg(dx_td);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(count(tokens), threads(width))) }
            .map(drop)
            .map_err(self.during("rms_norm_backward"))
    }
}
