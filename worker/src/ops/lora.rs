//! A frozen linear with its adapter, out of plain products: the reference that a fused path is compared with.

use super::{AdaptedLinear, Cpu, Mat, Out, Write};
use crate::lora::LoraPair;

/// Room for `tokens × rank` numbers, twice.
#[derive(Debug)]
pub struct LoraScratch<B> {
    /// `s · x · Aᵀ`.
    pub xa_tr: B,
    /// `s · dy · B`.
    pub dyb_tr: B,
}

pub(super) fn forward(
    ops: &Cpu,
    tokens: usize,
    x_ti: &Vec<f32>,
    linear: &AdaptedLinear<'_, Cpu>,
    scratch: &mut LoraScratch<Vec<f32>>,
    mut y_to: Out<'_, Vec<f32>>,
) {
    ops.multiply_forward(tokens, x_ti, linear.weight, y_to.reborrow());
    if let Some(bias) = linear.bias {
        ops.add_bias(tokens, bias, y_to.buf);
    }
    let Some(lora) = linear.lora else { return };
    let (outputs, inputs) = linear.shape;
    let LoraPair { a, b, rank } = lora.pair;
    let a_ir = Mat::transpose(lora.values).at(a);
    ops.gemm(
        [tokens, rank, inputs],
        lora.scale,
        Mat::new(x_ti),
        a_ir,
        Out::set(&mut scratch.xa_tr),
    );
    let b_ro = Mat::transpose(lora.values).at(b);
    let y_to = Out {
        write: Write::Add,
        ..y_to
    };
    ops.gemm(
        [tokens, outputs, rank],
        1.0,
        Mat::new(&scratch.xa_tr),
        b_ro,
        y_to,
    );
}

pub(super) fn backward(
    ops: &Cpu,
    tokens: usize,
    dy_to: &Vec<f32>,
    linear: &AdaptedLinear<'_, Cpu>,
    scratch: &mut LoraScratch<Vec<f32>>,
    mut dx_ti: Out<'_, Vec<f32>>,
) {
    ops.multiply_backward(tokens, dy_to, linear.weight, dx_ti.reborrow());
    let Some(lora) = linear.lora else { return };
    let inputs = linear.shape.1;
    let LoraPair { a, rank, .. } = lora.pair;
    project_output(ops, tokens, dy_to, linear, &mut scratch.dyb_tr);
    let a_ri = Mat::new(lora.values).at(a);
    let dx_ti = Out {
        write: Write::Add,
        ..dx_ti
    };
    let dyb_tr = Mat::new(&scratch.dyb_tr);
    ops.gemm([tokens, inputs, rank], 1.0, dyb_tr, a_ri, dx_ti);
}

/// `s · dy · B`.
fn project_output(
    ops: &Cpu,
    tokens: usize,
    dy_to: &Vec<f32>,
    linear: &AdaptedLinear<'_, Cpu>,
    dyb_tr: &mut Vec<f32>,
) {
    let Some(lora) = linear.lora else { return };
    let LoraPair { b, rank, .. } = lora.pair;
    ops.gemm(
        [tokens, rank, linear.shape.0],
        lora.scale,
        Mat::new(dy_to),
        Mat::new(lora.values).at(b),
        Out::set(dyb_tr),
    );
}

pub(super) fn gradients(
    ops: &Cpu,
    tokens: usize,
    (x_ti, dy_to): (&Vec<f32>, &Vec<f32>),
    linear: &AdaptedLinear<'_, Cpu>,
    scratch: &mut LoraScratch<Vec<f32>>,
    grads: &mut Vec<f32>,
) {
    let Some(lora) = linear.lora else { return };
    let (outputs, inputs) = linear.shape;
    let LoraPair { a, b, rank } = lora.pair;
    let LoraScratch { xa_tr, dyb_tr } = scratch;
    project_output(ops, tokens, dy_to, linear, dyb_tr);
    let a_ir = Mat::transpose(lora.values).at(a);
    ops.gemm(
        [tokens, rank, inputs],
        lora.scale,
        Mat::new(x_ti),
        a_ir,
        Out::set(xa_tr),
    );
    let da_ri = Out::set(&mut *grads).at(a - lora.grad_base);
    ops.gemm(
        [rank, inputs, tokens],
        1.0,
        Mat::transpose(dyb_tr),
        Mat::new(x_ti),
        da_ri,
    );
    let db_or = Out::set(&mut *grads).at(b - lora.grad_base);
    ops.gemm(
        [outputs, rank, tokens],
        1.0,
        Mat::transpose(dy_to),
        Mat::new(xa_tr),
        db_or,
    );
}
