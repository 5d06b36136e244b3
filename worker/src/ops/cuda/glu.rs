//! Gated linear units.

use cudarc::driver::PushKernelArg;

use super::{CudaKernels, Halves, whole_vectors};
use crate::cuda::GpuError;
use crate::model::Activation;

/// The activation as the kernels number it.
fn number(act: Activation) -> u32 {
    match act {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
    }
}

impl CudaKernels {
    /// `h = act(gate) · up` over `len` elements.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a buffer is too short or `len` is not whole vectors.
    pub fn glu_forward(
        &self,
        len: usize,
        act: Activation,
        (gate, up): (&Halves, &Halves),
        h: &mut Halves,
    ) -> Result<(), GpuError> {
        whole_vectors(len);
        assert!(gate.len() >= len && up.len() >= len && h.len() >= len);
        let (vectors, act) = (len as u64 / 8, number(act));
        let mut launch = self.gpu.stream().launch_builder(&self.glu_forward);
        launch.arg(gate).arg(up).arg(&vectors).arg(&act).arg(h);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(self.strided_grid(len / 8, 256)) }
            .map(drop)
            .map_err(self.during("glu_forward"))
    }

    /// Gradient of the gated unit, in place: `gate` becomes its own gradient, `up` its own.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a buffer is too short or `len` is not whole vectors.
    pub fn glu_backward(
        &self,
        len: usize,
        act: Activation,
        dh: &Halves,
        (gate, up): (&mut Halves, &mut Halves),
    ) -> Result<(), GpuError> {
        whole_vectors(len);
        assert!(gate.len() >= len && up.len() >= len && dh.len() >= len);
        let (vectors, act) = (len as u64 / 8, number(act));
        let mut launch = self.gpu.stream().launch_builder(&self.glu_backward);
        launch.arg(dh).arg(&vectors).arg(&act).arg(gate).arg(up);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(self.strided_grid(len / 8, 256)) }
            .map(drop)
            .map_err(self.during("glu_backward"))
    }
}
