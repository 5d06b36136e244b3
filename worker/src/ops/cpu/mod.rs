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
mod gemv;
mod glu;
mod linear;
mod math;
mod norm;
mod rope;
mod scratch;

use super::{
    AdaptedLinear, AttentionGrads, AttentionSaved, AttentionShape, DeviceError, Input, LoraScratch,
    Mat, Norm, Ops, Out, Qkv, Rotation, Sizes, Write, lora,
};
use crate::model::{Activation, DenseMatrix, FrozenLinear, Spec};

use scratch::ScratchPool;

/// The CPU backend. Clones share nothing but behave alike.
#[derive(Debug, Default)]
pub struct Cpu {
    scratch: ScratchPool,
    /// What a pass may take, where that was said.
    pass_limit: Option<u64>,
    /// Whether a trainer scales the loss, as it would in fp16.
    scaled_loss: bool,
    /// Whether products with one vector go row by row.
    by_rows: bool,
}

/// Document boundaries: document i has queries `queries[i]..queries[i + 1]` and keys `keys[i]..keys[i + 1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// Boundaries among queries.
    pub queries: Vec<u32>,
    /// Boundaries among keys.
    pub keys: Vec<u32>,
}

impl Cpu {
    /// A backend that runs on rayon's current pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with a bound on what a pass may take of the memory, in bytes.
    #[must_use]
    pub fn with_pass_limit(self, pass_limit: Option<u64>) -> Self {
        Self { pass_limit, ..self }
    }

    /// The same, for a trainer that scales the loss as it would in fp16.
    #[must_use]
    pub fn with_scaled_loss(self) -> Self {
        Self {
            scaled_loss: true,
            ..self
        }
    }

    /// The same, for decoding: a product with one vector reads each row of the matrix once, as it is stored, and expands
    /// none of it in memory. Training keeps to one way of adding up.
    #[must_use]
    pub fn for_generation(self) -> Self {
        Self {
            by_rows: true,
            ..self
        }
    }

    /// Whether a trainer scales the loss.
    #[must_use]
    pub fn loss_is_scaled(&self) -> bool {
        self.scaled_loss
    }

    /// The bound on what a pass may take.
    #[must_use]
    pub fn pass_limit(&self) -> Option<u64> {
        self.pass_limit
    }

    /// `c_mn (= or +=) alpha · a_mk · b_kn`, each operand as it lies or transposed. Meant for the adapter: one of m,
    /// n, k is a rank.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn gemm(
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

    /// `y_to (= or +=) x_ti · w_oiᵀ`.
    pub(super) fn multiply_forward(
        &self,
        tokens: usize,
        x_ti: &[f32],
        w_oi: &FrozenLinear,
        y_to: Out<'_, Vec<f32>>,
    ) {
        if self.by_rows && tokens == 1 {
            return gemv::forward(x_ti, w_oi, y_to);
        }
        linear::forward(&self.scratch, tokens, x_ti, w_oi, y_to);
    }

    /// Its gradient for the input: `dx_ti (= or +=) dy_to · w_oi`.
    pub(super) fn multiply_backward(
        &self,
        tokens: usize,
        dy_to: &[f32],
        w_oi: &FrozenLinear,
        dx_ti: Out<'_, Vec<f32>>,
    ) {
        linear::backward(&self.scratch, tokens, dy_to, w_oi, dx_ti);
    }

    /// `y_to += bias_o` for each of `tokens` rows.
    pub(super) fn add_bias(&self, tokens: usize, bias_o: &[f32], y_to: &mut [f32]) {
        elementwise::add_bias(tokens, bias_o, y_to);
    }
}

impl Sizes for Cpu {
    fn matrix_bytes(&self, rows: usize, widths: &[usize]) -> u64 {
        (rows * widths.iter().sum::<usize>() * size_of::<f32>()) as u64
    }

    fn lendable_bytes(&self, _rows: usize, _width: usize) -> u64 {
        0
    }

    fn is_lean(&self) -> bool {
        false
    }

    fn scratch_bytes(&self, _spec: &Spec, tokens: usize, rank: usize) -> u64 {
        (2 * tokens * rank * size_of::<f32>()) as u64
    }
}

impl Ops for Cpu {
    type Buf = Vec<f32>;
    type Floats = Vec<f32>;
    type Params = Vec<f32>;
    type Ids = Vec<u32>;
    type Documents = Documents;
    type Linear = FrozenLinear;
    type Scratch = LoraScratch<Vec<f32>>;
    type Store = Vec<f32>;
    type Loss = f64;

    /// On one of the pool's threads: whoever asks from outside waits for another thread to wake, at each op.
    fn together<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        rayon::scope(|_| work())
    }

    fn alloc_joined<const N: usize>(&self, rows: usize, widths: [usize; N]) -> [Vec<f32>; N] {
        widths.map(|width| vec![0.0; rows * width])
    }

    fn alloc_within<const N: usize>(
        &self,
        _lender: (&Vec<f32>, u64),
        rows: usize,
        widths: [usize; N],
    ) -> [Vec<f32>; N] {
        self.alloc_joined(rows, widths)
    }

    fn alloc_floats(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn alloc_scratch(&self, _spec: &Spec, tokens: usize, rank: usize) -> LoraScratch<Vec<f32>> {
        LoraScratch {
            xa_tr: vec![0.0; tokens * rank],
            dyb_tr: vec![0.0; tokens * rank],
        }
    }

    fn alloc_store(&self, rows: usize, width: usize) -> Vec<f32> {
        vec![0.0; rows * width]
    }

    fn store(&self, (rows, width): (usize, usize), buf: &Vec<f32>, store: &mut Vec<f32>) {
        store[..rows * width].copy_from_slice(&buf[..rows * width]);
    }

    fn load(&self, (rows, width): (usize, usize), store: &mut Vec<f32>, buf: &mut Vec<f32>) {
        buf[..rows * width].copy_from_slice(&store[..rows * width]);
    }

    fn settle(&self, _store: &Vec<f32>) {}

    fn upload(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }

    fn upload_adapter(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }

    fn upload_ids(&self, ids: &[u32], below: usize) -> Vec<u32> {
        assert!(
            ids.iter().all(|&id| (id as usize) < below),
            "numbers below {below}"
        );
        ids.to_vec()
    }

    fn upload_documents(&self, bounds: &[u32]) -> Documents {
        self.upload_continued(bounds, bounds)
    }

    fn upload_continued(&self, queries: &[u32], keys: &[u32]) -> Documents {
        Documents {
            queries: queries.to_vec(),
            keys: keys.to_vec(),
        }
    }

    fn upload_linear(&self, weight: FrozenLinear) -> FrozenLinear {
        weight
    }

    fn upload_embeddings(&self, table: DenseMatrix, _tied: bool) -> FrozenLinear {
        FrozenLinear::Dense(table)
    }

    fn read(&self, buf: &Vec<f32>, _width: usize, out: &mut [f32]) {
        out.copy_from_slice(&buf[..out.len()]);
    }

    fn likeliest(&self, width: usize, buf: &Vec<f32>) -> Option<u32> {
        elementwise::likeliest(&buf[..width])
    }

    fn zero(&self, (rows, width): (usize, usize), buf: &mut Vec<f32>) {
        buf[..rows * width].fill(0.0);
    }

    fn copy_rows(
        &self,
        (rows, width): (usize, usize),
        src: &Vec<f32>,
        first: usize,
        dst: &mut Vec<f32>,
    ) {
        dst[first * width..][..rows * width].copy_from_slice(&src[..rows * width]);
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
        y_to: &mut Vec<f32>,
    ) {
        self.multiply_forward(tokens, x_ti, w_oi, Out::set(y_to));
    }

    fn adapted_forward(
        &self,
        tokens: usize,
        x_ti: &Vec<f32>,
        linears: &[AdaptedLinear<'_, Self>],
        scratch: &mut LoraScratch<Vec<f32>>,
        y_to: &mut [&mut Vec<f32>],
        residual_to: Option<&Vec<f32>>,
    ) {
        for (linear, y_to) in linears.iter().zip(y_to) {
            let write = match residual_to {
                None => Write::Set,
                Some(residual) => {
                    let len = tokens * linear.shape.0;
                    y_to[..len].copy_from_slice(&residual[..len]);
                    Write::Add
                }
            };
            lora::forward(self, tokens, x_ti, linear, scratch, Out::new(y_to, write));
        }
    }

    fn adapted_backward(
        &self,
        tokens: usize,
        dy_to: &[&Vec<f32>],
        linears: &[AdaptedLinear<'_, Self>],
        scratch: &mut LoraScratch<Vec<f32>>,
        dx_ti: Option<&mut Vec<f32>>,
    ) {
        let Some(dx_ti) = dx_ti else { return };
        let mut write = Write::Set;
        for (linear, dy_to) in linears.iter().zip(dy_to) {
            lora::backward(self, tokens, dy_to, linear, scratch, Out::new(dx_ti, write));
            write = Write::Add;
        }
    }

    fn adapter_gradients(
        &self,
        tokens: usize,
        (x_ti, dy_to): (Input<'_, Vec<f32>>, &[&Vec<f32>]),
        linears: &[AdaptedLinear<'_, Self>],
        scratch: &mut LoraScratch<Vec<f32>>,
        grads: &mut Vec<f32>,
    ) {
        for (linear, dy_to) in linears.iter().zip(dy_to) {
            lora::gradients(self, tokens, (x_ti.buf(), dy_to), linear, scratch, grads);
        }
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

    fn rope(
        &self,
        rotation: Rotation<'_, Vec<f32>>,
        (heads, kv_heads): (usize, usize),
        q_the: &mut Vec<f32>,
        k_tke: &mut Vec<f32>,
    ) {
        rope::rotate(rotation, heads, q_the);
        rope::rotate(rotation, kv_heads, k_tke);
    }

    fn glu_forward(
        &self,
        (tokens, width): (usize, usize),
        act: Activation,
        (gate, up): (&Vec<f32>, &Vec<f32>),
        h: &mut Vec<f32>,
    ) {
        let len = tokens * width;
        glu::forward(act, (&gate[..len], &up[..len]), &mut h[..len]);
    }

    fn glu_backward(
        &self,
        (tokens, width): (usize, usize),
        act: Activation,
        dh: &mut Vec<f32>,
        (gate, up): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let len = tokens * width;
        let gate_up = (&mut gate[..len], &mut up[..len]);
        glu::backward(act, &mut dh[..len], gate_up);
    }

    fn attention_forward(
        &self,
        shape: AttentionShape,
        documents: &Documents,
        qkv: Qkv<'_, Vec<f32>>,
        out_the: &mut Vec<f32>,
        lse_th: &mut Vec<f32>,
    ) {
        attention::forward(shape, documents, qkv, out_the, lse_th);
    }

    fn attention_backward(
        &self,
        shape: AttentionShape,
        documents: &Documents,
        saved: AttentionSaved<'_, Self>,
        dout_the: &Vec<f32>,
        grads: AttentionGrads<'_, Vec<f32>>,
    ) {
        attention::backward(shape, &documents.queries, saved, dout_the, grads);
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

    fn loss(&self, loss: f64) -> f64 {
        loss
    }

    fn health(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}
