//! Last norm, head and cross-entropy, over supervised rows only.

use super::PackedBatch;
use crate::model::layer::{Lent, Workspace};
use crate::model::{Model, Spec};
use crate::ops::{Norm, Ops, Sizes};

/// What one micro-batch adds to its step's loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SlotLoss {
    /// Sum of −log p over supervised tokens.
    pub loss_sum: f64,
    /// Supervised tokens.
    pub supervised: u64,
}

/// The supervised rows of a batch and their gradient. They lie where the gated unit's output does, which is idle between
/// forward and backward.
pub(super) struct LossBuffers<O: Ops> {
    x: O::Buf,
    dx: O::Buf,
}

impl<O: Ops> LossBuffers<O> {
    /// For up to `rows` rows, beside the buffers of the layers.
    pub(super) fn new(ops: &O, spec: &Spec, rows: usize, work: &Workspace<O>) -> Self {
        let mut lent = Lent::of(ops, rows, spec.ffn);
        let [x] = lent.alloc(ops, &work.h, [spec.hidden]);
        let [dx] = lent.alloc(ops, &work.h, [spec.hidden]);
        Self { x, dx }
    }

    /// Bytes of their own that the buffers for `rows` rows take.
    pub(super) fn bytes(ops: &impl Sizes, spec: &Spec, rows: usize) -> u64 {
        let mut lent = Lent::of(ops, rows, spec.ffn);
        lent.bytes_of(ops, &[spec.hidden]) + lent.bytes_of(ops, &[spec.hidden])
    }

    /// Loss of the residual stream `x_td`; its gradient times `scale` goes to `dx_td`, `=`.
    ///
    /// # Panics
    /// If `work` was made for a forward alone.
    pub(super) fn forward_backward(
        &mut self,
        model: &Model<O>,
        batch: &PackedBatch,
        scale: f32,
        work: &mut Workspace<O>,
        (x_td, dx_td): (&O::Buf, &mut O::Buf),
    ) -> O::Loss {
        let Workspace {
            xn, rstd, grads, ..
        } = work;
        let grads = grads.as_mut();
        let dxn = &mut grads.expect("the workspace was made for training").dxn;
        let (ops, width) = (model.ops(), model.spec().hidden);
        let (rows, targets) = (
            ops.upload_ids(batch.rows(), batch.len()),
            ops.upload_ids(batch.targets(), model.spec().vocab),
        );
        let count = batch.rows().len();
        ops.gather_rows(&rows, width, x_td, &mut self.x);
        let norm = Norm {
            weight: model.final_norm(),
            eps: model.spec().rms_eps,
            tokens: count,
            width,
        };
        ops.rms_norm_forward(norm, &self.x, xn, rstd);
        let loss = ops.cross_entropy(&targets, model.head(), scale, xn, dxn);
        ops.zero((count, width), &mut self.dx);
        ops.rms_norm_backward(norm, (&self.x, rstd), dxn, &mut self.dx);
        ops.scatter_rows(&rows, (batch.len(), width), &self.dx, dx_td);
        loss
    }
}
