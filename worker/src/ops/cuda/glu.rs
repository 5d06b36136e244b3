//! Gated linear units.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::{CudaKernels, Halves, count, push_halves};
use crate::cuda::GpuError;
use crate::model::Activation;

/// Threads of a block: vectors of a row that it has.
const THREADS: usize = 256;

/// The activation as the kernels number it.
fn number(act: Activation) -> u32 {
    match act {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
    }
}

impl CudaKernels {
    /// `h = act(gate) · up` over the first `tokens` rows, as wide as `h`.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small or a width is not whole vectors.
    pub fn glu_forward(
        &self,
        tokens: usize,
        act: Activation,
        (gate, up): (&Halves, &Halves),
        h: &mut Halves,
    ) -> Result<(), GpuError> {
        let width = h.width();
        h.check("h", tokens, width);
        gate.check("gate", tokens, width);
        up.check("up", tokens, width);
        let (rows, vectors, act) = (count(tokens), count(width / 8), number(act));
        let mut launch = self.gpu.stream().launch_builder(&self.glu_forward);
        push_halves(&mut launch, gate);
        push_halves(&mut launch, up);
        launch.arg(&rows).arg(&vectors).arg(&act);
        push_halves(&mut launch, h);
        // SAFETY: the arguments are the kernel's, and the sizes were checked above.
        unsafe { launch.launch(self.rows_grid(tokens, width)) }
            .map(drop)
            .map_err(self.during("glu_forward"))
    }

    /// Gradient of the gated unit over the first `tokens` rows, as wide as `dh`, in place: `gate` becomes its own
    /// gradient, `up` its own, and `dh` becomes h.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small or a width is not whole vectors.
    pub fn glu_backward(
        &self,
        tokens: usize,
        act: Activation,
        dh: &mut Halves,
        (gate, up): (&mut Halves, &mut Halves),
    ) -> Result<(), GpuError> {
        let width = dh.width();
        dh.check("dh", tokens, width);
        gate.check("gate", tokens, width);
        up.check("up", tokens, width);
        let (rows, vectors, act) = (count(tokens), count(width / 8), number(act));
        let mut launch = self.gpu.stream().launch_builder(&self.glu_backward);
        push_halves(&mut launch, dh);
        launch.arg(&rows).arg(&vectors).arg(&act);
        push_halves(&mut launch, gate);
        push_halves(&mut launch, up);
        // SAFETY: the arguments are the kernel's, and the sizes were checked above.
        unsafe { launch.launch(self.rows_grid(tokens, width)) }
            .map(drop)
            .map_err(self.during("glu_backward"))
    }

    /// A grid of rows by stretches of a row, some waves deep; rows are strided over it.
    fn rows_grid(&self, rows: usize, width: usize) -> LaunchConfig {
        let stretches = count((width / 8).div_ceil(THREADS));
        let most = (self.gpu.multiprocessors() * 16).div_ceil(stretches);
        LaunchConfig {
            grid_dim: (count(rows).clamp(1, most), stretches, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: 0,
        }
    }
}
