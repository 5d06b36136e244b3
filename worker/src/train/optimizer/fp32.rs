//! AdamW with 32-bit moments, in the two orders of operations that the libraries use.

use rayon::prelude::*;

use super::coefficients::Coefficients;

/// Elements that one task updates: four arrays of this length fit the second-level cache.
const CHUNK: usize = 8192;

/// Runs `update` over all chunks in parallel.
pub(super) fn for_each_chunk(
    params: &mut [f32],
    grads: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    update: impl Fn(&mut [f32], &[f32], &mut [f32], &mut [f32]) + Sync,
) {
    params
        .par_chunks_mut(CHUNK)
        .zip(grads.par_chunks(CHUNK))
        .zip(
            first
                .par_chunks_mut(CHUNK)
                .zip(second.par_chunks_mut(CHUNK)),
        )
        .for_each(|((params, grads), (first, second))| update(params, grads, first, second));
}

/// `torch.optim.AdamW`: parameters decay first. Source: torch/optim/adamw.py, single tensor.
pub(super) fn update_like_torch(
    params: &mut [f32],
    grads: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    scalars: &Coefficients,
) {
    for (((param, grad), m), v) in params.iter_mut().zip(grads).zip(first).zip(second) {
        let grad = grad * scalars.clip;
        *m += scalars.gain1 * (grad - *m);
        *v = scalars.beta2 * *v + scalars.gain2 * grad * grad;
        let denominator = v.sqrt() / scalars.root_correction2 + scalars.epsilon;
        *param = *param * scalars.keep - scalars.step_size * (*m / denominator);
    }
}

/// What bitsandbytes' 8-bit AdamW does with small tensors: parameters decay last. Source: csrc/kernels.cu,
/// `kOptimizer32bit2State`.
pub(super) fn update_like_bitsandbytes(
    params: &mut [f32],
    grads: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    scalars: &Coefficients,
) {
    for (((param, grad), m), v) in params.iter_mut().zip(grads).zip(first).zip(second) {
        let grad = grad * scalars.clip;
        *m = *m * scalars.beta1 + scalars.gain1 * grad;
        *v = *v * scalars.beta2 + scalars.gain2 * grad * grad;
        *param = scalars.moved(*param, *m, *v);
    }
}

impl Coefficients {
    /// bitsandbytes' step from fresh moments, decay last.
    pub(super) fn moved(&self, param: f32, m: f32, v: f32) -> f32 {
        let step = self.step_size * self.root_correction2;
        let denominator = v.sqrt() + self.root_correction2 * self.epsilon;
        (param - step * (m / denominator)) * self.keep
    }
}
