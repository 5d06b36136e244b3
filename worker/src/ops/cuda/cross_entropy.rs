//! Cross-entropy over a chunk of logits.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::rows::DeviceRows;
use super::{CudaKernels, Halves, blocks, count, push_halves};
use crate::cuda::GpuError;

impl CudaKernels {
    /// `logits_sv = scale · (softmax − onehot(target))` in place, and `loss_sum += Σ −log p(target)`, in f64, in an
    /// order that the number of rows alone decides. `losses` is scratch, one number a row.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small.
    pub fn cross_entropy(
        &self,
        targets_s: &DeviceRows,
        scale: f32,
        logits_sv: &mut Halves,
        losses: &mut CudaSlice<f32>,
        loss_sum: &mut CudaSlice<f64>,
    ) -> Result<(), GpuError> {
        let (rows, vocab) = (targets_s.len(), targets_s.below());
        logits_sv.check("logits", rows, vocab);
        assert!(losses.len() >= rows && !loss_sum.is_empty());
        if rows == 0 {
            return Ok(());
        }
        let (row_count, vocab) = (count(rows), count(vocab));
        let mut launch = self.gpu.stream().launch_builder(&self.cross_entropy);
        launch.arg(targets_s.ids()).arg(&vocab).arg(&scale);
        push_halves(&mut launch, logits_sv);
        launch.arg(&mut *losses);
        // SAFETY: the arguments are the kernel's; targets and lengths were checked.
        unsafe { launch.launch(blocks(row_count, 1024)) }.map_err(self.during("cross_entropy"))?;
        let mut launch = self.gpu.stream().launch_builder(&self.sum_losses);
        launch.arg(losses).arg(&row_count).arg(loss_sum);
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(1, 256)) }
            .map(drop)
            .map_err(self.during("sum_losses"))
    }
}
