//! The CPU backend: f32, rayon, and the `gemm` crate's kernels. It is the reference that other backends are tested
//! against.
//!
//! Work is cut into tiles whose size depends on shapes alone, and every sum has one order, so the number of threads
//! changes no bit. Processor models may differ in theirs: the product kernels choose instructions and block sizes by what
//! they find.

mod attention;
mod cross_entropy;
mod elementwise;
mod gemm;
mod glu;
mod linear;
mod math;
mod norm;
mod rope;
mod scratch;

use super::{
    AttentionGrads, AttentionSaved, AttentionShape, Mat, Norm, Ops, Out, Qkv, Rotation, Spans,
};
use crate::model::{Activation, FrozenLinear};

use scratch::ScratchPool;

/// The CPU backend. Clones share nothing but behave alike.
#[derive(Debug, Default)]
pub struct Cpu {
    scratch: ScratchPool,
}

impl Cpu {
    /// A backend that runs on rayon's current pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Ops for Cpu {
    type Buf = Vec<f32>;
    type Ids = Vec<u32>;
    type Linear = FrozenLinear;

    fn alloc(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn upload(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }

    fn upload_ids(&self, ids: &[u32]) -> Vec<u32> {
        ids.to_vec()
    }

    fn upload_linear(&self, weight: FrozenLinear) -> FrozenLinear {
        weight
    }

    fn read(&self, buf: &Vec<f32>, out: &mut [f32]) {
        out.copy_from_slice(&buf[..out.len()]);
    }

    fn zero(&self, len: usize, buf: &mut Vec<f32>) {
        buf[..len].fill(0.0);
    }

    fn copy(&self, len: usize, src: &Vec<f32>, dst: &mut Vec<f32>) {
        dst[..len].copy_from_slice(&src[..len]);
    }

    fn copy_at(&self, len: usize, src: &Vec<f32>, offset: usize, dst: &mut Vec<f32>) {
        dst[offset..offset + len].copy_from_slice(&src[..len]);
    }

    fn add_bias(&self, tokens: usize, bias_o: &Vec<f32>, y_to: &mut Vec<f32>) {
        elementwise::add_bias(tokens, bias_o, y_to);
    }

    fn embed(&self, ids_t: &Vec<u32>, table_vd: &FrozenLinear, scale: f32, out_td: &mut Vec<f32>) {
        elementwise::embed(ids_t, table_vd, scale, out_td);
    }

    fn gather_rows(&self, rows_s: &Vec<u32>, width: usize, x_td: &Vec<f32>, out_sd: &mut Vec<f32>) {
        elementwise::gather_rows(rows_s, width, x_td, out_sd);
    }

    fn scatter_rows(
        &self,
        rows_s: &Vec<u32>,
        (tokens, width): (usize, usize),
        x_sd: &Vec<f32>,
        out_td: &mut Vec<f32>,
    ) {
        elementwise::scatter_rows(rows_s, width, x_sd, &mut out_td[..tokens * width]);
    }

    fn linear_forward(
        &self,
        tokens: usize,
        x_ti: &Vec<f32>,
        w_oi: &FrozenLinear,
        y_to: Out<'_, Vec<f32>>,
    ) {
        linear::forward(&self.scratch, tokens, x_ti, w_oi, y_to);
    }

    fn linear_backward(
        &self,
        tokens: usize,
        dy_to: &Vec<f32>,
        w_oi: &FrozenLinear,
        dx_ti: Out<'_, Vec<f32>>,
    ) {
        linear::backward(&self.scratch, tokens, dy_to, w_oi, dx_ti);
    }

    fn gemm(
        &self,
        [m, n, k]: [usize; 3],
        alpha: f32,
        a_mk: Mat<'_, Vec<f32>>,
        b_kn: Mat<'_, Vec<f32>>,
        c_mn: Out<'_, Vec<f32>>,
    ) {
        let a = gemm::View::packed(&a_mk.buf[a_mk.offset..], (m, k), a_mk.transposed);
        let b = gemm::View::packed(&b_kn.buf[b_kn.offset..], (k, n), b_kn.transposed);
        gemm::tiled(
            [m, n, k],
            alpha,
            a,
            b,
            gemm::Target::packed(&mut c_mn.buf[c_mn.offset..], n, c_mn.write),
        );
    }

    fn rms_norm_forward(
        &self,
        norm: Norm<'_, Vec<f32>>,
        x_td: &Vec<f32>,
        y_td: &mut Vec<f32>,
        rstd_t: &mut Vec<f32>,
    ) {
        norm::forward(norm, x_td, y_td, rstd_t);
    }

    fn rms_norm_backward(
        &self,
        norm: Norm<'_, Vec<f32>>,
        (x_td, rstd_t): (&Vec<f32>, &Vec<f32>),
        dy_td: &Vec<f32>,
        dx_td: &mut Vec<f32>,
    ) {
        norm::backward(norm, (x_td, rstd_t), dy_td, dx_td);
    }

    fn rope(&self, rotation: Rotation<'_, Vec<f32>>, heads: usize, x_the: &mut Vec<f32>) {
        rope::rotate(rotation, heads, x_the);
    }

    fn glu_forward(
        &self,
        len: usize,
        act: Activation,
        (gate, up): (&Vec<f32>, &Vec<f32>),
        h: &mut Vec<f32>,
    ) {
        glu::forward(act, (&gate[..len], &up[..len]), &mut h[..len]);
    }

    fn glu_backward(
        &self,
        len: usize,
        act: Activation,
        dh: &Vec<f32>,
        (gate, up): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        glu::backward(act, &dh[..len], (&mut gate[..len], &mut up[..len]));
    }

    fn attention_forward(
        &self,
        shape: AttentionShape,
        spans: Spans<'_, Vec<u32>>,
        qkv: Qkv<'_, Vec<f32>>,
        out_the: &mut Vec<f32>,
        lse_th: &mut Vec<f32>,
    ) {
        attention::forward(shape, spans, qkv, out_the, lse_th);
    }

    fn attention_backward(
        &self,
        shape: AttentionShape,
        documents: &Vec<u32>,
        saved: AttentionSaved<'_, Vec<f32>>,
        dout_the: &Vec<f32>,
        grads: AttentionGrads<'_, Vec<f32>>,
    ) {
        attention::backward(shape, documents, saved, dout_the, grads);
    }

    fn cross_entropy(
        &self,
        targets_s: &Vec<u32>,
        head_vd: &FrozenLinear,
        scale: f32,
        x_sd: &Vec<f32>,
        dx_sd: &mut Vec<f32>,
    ) -> f64 {
        cross_entropy::forward_backward(&self.scratch, targets_s, head_vd, scale, (x_sd, dx_sd))
    }
}
