//! Last norm, head and cross-entropy, over supervised rows only.

use super::PackedBatch;
use crate::model::Model;
use crate::ops::{Norm, Ops};

/// What one micro-batch adds to its step's loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SlotLoss {
    /// Sum of −log p over supervised tokens.
    pub loss_sum: f64,
    /// Supervised tokens.
    pub supervised: u64,
}

/// Buffers for the supervised rows of a batch.
pub(super) struct LossBuffers<O: Ops> {
    x: O::Buf,
    xn: O::Buf,
    rstd: O::Floats,
    dxn: O::Buf,
    dx: O::Buf,
}

impl<O: Ops> LossBuffers<O> {
    pub(super) fn new(ops: &O, hidden: usize, rows: usize) -> Self {
        let buffer = || ops.alloc(rows, hidden);
        Self {
            x: buffer(),
            xn: buffer(),
            rstd: ops.alloc_floats(rows),
            dxn: buffer(),
            dx: buffer(),
        }
    }

    /// Bytes of the buffers for `rows` rows.
    pub(super) fn bytes(ops: &O, hidden: usize, rows: usize) -> u64 {
        4 * ops.matrix_bytes(rows, &[hidden]) + (rows * size_of::<f32>()) as u64
    }

    /// Loss of the residual stream `x_td`; its gradient times `scale` goes to `dx_td`, `=`.
    pub(super) fn forward_backward(
        &mut self,
        model: &Model<O>,
        batch: &PackedBatch,
        scale: f32,
        (x_td, dx_td): (&O::Buf, &mut O::Buf),
    ) -> O::Loss {
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
        ops.rms_norm_forward(norm, &self.x, &mut self.xn, &mut self.rstd);
        let loss = ops.cross_entropy(&targets, model.head(), scale, &self.xn, &mut self.dxn);
        ops.zero((count, width), &mut self.dx);
        ops.rms_norm_backward(norm, (&self.x, &self.rstd), &self.dxn, &mut self.dx);
        ops.scatter_rows(&rows, (batch.len(), width), &self.dx, dx_td);
        loss
    }
}
