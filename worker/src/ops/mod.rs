//! Compute: one contract, one backend a folder.
//!
//! [`Ops`] is what the decoder layer, written once, asks of a device. Its contract:
//!
//! * **Shapes** are suffixes: `t` tokens of the packed batch, `s` supervised rows, `d` residual width, `i`/`o` inputs
//!   and outputs of a linear, `r` adapter rank, `h` query heads, `k` key/value heads, `e` head width, `f` MLP width,
//!   `v` vocabulary. All arrays are row by row, packed, and hold *at least* the elements that the shape names:
//!   buffers are reused, and what lies beyond is neither read nor written.
//! * **Outputs** say `=` (old contents never read, poison allowed) or `+=`. An output may overlap no input unless the
//!   op says "in place". The borrow checker holds the CPU backend to it.
//! * **Accumulation** is in f32 at least, in an order that depends on shapes alone: never on the number of threads,
//!   on timing or on addresses. Two calls with equal inputs give equal bits.
//! * Ops may be asynchronous; [`Ops::read`] and a returned number wait.

pub mod cpu;
pub mod cuda;
mod lora;
mod types;

pub use cpu::Cpu;
pub use lora::{AdaptedLinear, LoraBranch, LoraScratch};
pub use types::{
    AttentionGrads, AttentionSaved, AttentionShape, Mat, Norm, Out, Qkv, Rotation, Spans, Turn,
    Write,
};

use crate::model::{Activation, FrozenLinear};

/// A compute backend. See the module for the contract that all methods share.
pub trait Ops: Send + Sync {
    /// Activations, adapter values, gradients.
    type Buf: Send + Sync;
    /// Token ids, positions, row numbers, boundaries.
    type Ids: Send + Sync;
    /// A frozen matrix on the device.
    type Linear: Send + Sync;

    /// A buffer for `len` elements; contents unspecified.
    fn alloc(&self, len: usize) -> Self::Buf;

    /// A buffer that holds `values`.
    fn upload(&self, values: Vec<f32>) -> Self::Buf;

    /// Small integers that kernels read.
    fn upload_ids(&self, ids: &[u32]) -> Self::Ids;

    /// A frozen matrix, moved to the device.
    fn upload_linear(&self, weight: FrozenLinear) -> Self::Linear;

    /// `out = buf[..out.len()]`. Waits for all work before it.
    fn read(&self, buf: &Self::Buf, out: &mut [f32]);

    /// `buf[..len] = 0`.
    fn zero(&self, len: usize, buf: &mut Self::Buf);

    /// `dst[..len] = src[..len]`.
    fn copy(&self, len: usize, src: &Self::Buf, dst: &mut Self::Buf);

    /// `dst[offset..offset + len] = src[..len]`: appends to a cache.
    fn copy_at(&self, len: usize, src: &Self::Buf, offset: usize, dst: &mut Self::Buf);

    /// `y_to += bias_o` for each of `tokens` rows.
    fn add_bias(&self, tokens: usize, bias_o: &Self::Buf, y_to: &mut Self::Buf);

    /// `out_td = scale · table_vd[ids_t]`.
    fn embed(&self, ids_t: &Self::Ids, table_vd: &Self::Linear, scale: f32, out_td: &mut Self::Buf);

    /// `out_sd = x_td[rows_s]`.
    fn gather_rows(
        &self,
        rows_s: &Self::Ids,
        width: usize,
        x_td: &Self::Buf,
        out_sd: &mut Self::Buf,
    );

    /// `out_td = 0`, then `out_td[rows_s] = x_sd`. `rows_s` ascends strictly.
    fn scatter_rows(
        &self,
        rows_s: &Self::Ids,
        shape_td: (usize, usize),
        x_sd: &Self::Buf,
        out_td: &mut Self::Buf,
    );

    /// Multiplies by a frozen matrix: `y_to (= or +=) x_ti · w_oiᵀ`.
    fn linear_forward(
        &self,
        tokens: usize,
        x_ti: &Self::Buf,
        w_oi: &Self::Linear,
        y_to: Out<'_, Self::Buf>,
    );

    /// Gradient of [`Self::linear_forward`] for its input: `dx_ti (= or +=) dy_to · w_oi`.
    fn linear_backward(
        &self,
        tokens: usize,
        dy_to: &Self::Buf,
        w_oi: &Self::Linear,
        dx_ti: Out<'_, Self::Buf>,
    );

    /// `c_mn (= or +=) alpha · a_mk · b_kn`, each operand as it lies or transposed. Meant for the adapter: one of m,
    /// n, k is a rank.
    fn gemm(
        &self,
        mnk: [usize; 3],
        alpha: f32,
        a_mk: Mat<'_, Self::Buf>,
        b_kn: Mat<'_, Self::Buf>,
        c_mn: Out<'_, Self::Buf>,
    );

    /// Root-mean-square norm of each row: `rstd_t = 1/√(mean(x²) + eps)`, `y_td = x · rstd · weight_d`. Both `=`.
    fn rms_norm_forward(
        &self,
        norm: Norm<'_, Self::Buf>,
        x_td: &Self::Buf,
        y_td: &mut Self::Buf,
        rstd_t: &mut Self::Buf,
    );

    /// Gradient of the norm for its input: `dx_td += …`. The weight is frozen.
    fn rms_norm_backward(
        &self,
        norm: Norm<'_, Self::Buf>,
        x_and_rstd: (&Self::Buf, &Self::Buf),
        dy_td: &Self::Buf,
        dx_td: &mut Self::Buf,
    );

    /// Rotates each head's pairs (element e with element e + half) by the angle of its position, in place.
    /// `backward` turns the other way, which is the gradient.
    fn rope(&self, rotation: Rotation<'_, Self::Buf>, heads: usize, x_the: &mut Self::Buf);

    /// `h_tf = act(gate_tf) · up_tf` over `len` elements.
    fn glu_forward(
        &self,
        len: usize,
        act: Activation,
        gate_up: (&Self::Buf, &Self::Buf),
        h: &mut Self::Buf,
    );

    /// Gradient of the gated unit, in place: `gate` becomes its own gradient, `up` its own.
    fn glu_backward(
        &self,
        len: usize,
        act: Activation,
        dh: &Self::Buf,
        gate_up: (&mut Self::Buf, &mut Self::Buf),
    );

    /// Causal attention within each document, grouped queries: `out_the =`, `lse_th =` (natural logarithm of the sum
    /// of exponentials of the scaled scores). No more than a tile of scores exists at a time. Where a document has
    /// fewer queries than keys, the queries are its last positions.
    fn attention_forward(
        &self,
        shape: AttentionShape,
        spans: Spans<'_, Self::Ids>,
        qkv: Qkv<'_, Self::Buf>,
        out_the: &mut Self::Buf,
        lse_th: &mut Self::Buf,
    );

    /// Gradient of [`Self::attention_forward`] for queries, keys and values, all `=`. Queries and keys of a document
    /// are equally many.
    fn attention_backward(
        &self,
        shape: AttentionShape,
        documents: &Self::Ids,
        saved: AttentionSaved<'_, Self::Buf>,
        dout_the: &Self::Buf,
        grads: AttentionGrads<'_, Self::Buf>,
    );

    /// Head and cross-entropy of supervised rows in one pass over chunks of rows, so that logits exist for one chunk
    /// only. Returns the sum of −log p(target), summed in f64; `dx_sd = scale · (softmax − onehot) · head_vd`.
    fn cross_entropy(
        &self,
        targets_s: &Self::Ids,
        head_vd: &Self::Linear,
        scale: f32,
        x_sd: &Self::Buf,
        dx_sd: &mut Self::Buf,
    ) -> f64;

    /// A frozen linear and its adapter: `y_to (= or +=) x·Wᵀ + bias + s·(x·Aᵀ)·Bᵀ`. A backend may fuse it; this is
    /// the reference.
    fn adapted_forward(
        &self,
        tokens: usize,
        x_ti: &Self::Buf,
        linear: AdaptedLinear<'_, Self>,
        scratch: &mut LoraScratch<Self::Buf>,
        y_to: Out<'_, Self::Buf>,
    ) where
        Self: Sized,
    {
        lora::forward(self, tokens, x_ti, linear, scratch, y_to);
    }

    /// Gradient of [`Self::adapted_forward`]: `dx_ti` (where wanted), and A's and B's gradients, `=`, into `grads` at
    /// their offsets less `linear.grad_base`.
    fn adapted_backward(
        &self,
        tokens: usize,
        (x_ti, dy_to): (&Self::Buf, &Self::Buf),
        linear: AdaptedLinear<'_, Self>,
        scratch: &mut LoraScratch<Self::Buf>,
        dx_ti: Option<Out<'_, Self::Buf>>,
        grads: &mut Self::Buf,
    ) where
        Self: Sized,
    {
        lora::backward(self, tokens, (x_ti, dy_to), linear, scratch, dx_ti, grads);
    }
}
