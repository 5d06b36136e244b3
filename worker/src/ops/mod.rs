//! Compute: one contract, one backend a folder.
//!
//! [`Ops`] is what the decoder layer, written once, asks of a device. Its contract:
//!
//! * **Shapes** are suffixes: `t` tokens of the packed batch, `s` supervised rows, `d` residual width, `i`/`o` inputs
//!   and outputs of a linear, `r` adapter rank, `h` query heads, `k` key/value heads, `e` head width, `f` MLP width,
//!   `v` vocabulary. A [`Ops::Buf`] is a matrix of at least the rows that the shape names: buffers are reused, and what
//!   lies beyond is neither read nor written. How its rows lie is the backend's business.
//! * **Outputs** say `=` (old contents never read, poison allowed) or `+=`. An output may overlap no input unless the
//!   op says "in place". The borrow checker holds the CPU backend to it.
//! * **Accumulation** is in f32 at least, in an order that depends on shapes alone: never on the number of threads,
//!   on timing or on addresses. Two calls with equal inputs give equal bits.
//! * Ops may be asynchronous, and one that fails is followed by others that do nothing: [`Ops::health`] says what
//!   failed. [`Ops::read`], [`Ops::loss`] and [`Ops::health`] wait for all work before them.

pub mod cpu;
pub mod cuda;
mod lora;
mod sizes;
mod types;

pub use cpu::Cpu;
pub use lora::LoraScratch;
pub use sizes::Sizes;
pub use types::{
    AdaptedLinear, AttentionGrads, AttentionSaved, AttentionShape, DeviceError, Input, LoraBranch,
    Mat, Norm, Out, Qkv, Rotation, Turn, Write,
};

use crate::model::loader::LoadError;
use crate::model::{Activation, DenseMatrix, FrozenLinear, Spec, StoredMatrix};

/// A compute backend. See the module for the contract that all methods share.
pub trait Ops: Sizes + Send + Sync + Sized {
    /// A matrix of activations or of their gradients.
    type Buf: Send + Sync;
    /// Numbers in f32: statistics, angles, weights of norms, gradients of adapters.
    type Floats: Send + Sync;
    /// An adapter's numbers as products read them.
    type Params: Send + Sync;
    /// Token ids, row numbers.
    type Ids: Send + Sync;
    /// Document boundaries.
    type Documents: Send + Sync;
    /// A frozen matrix on the device.
    type Linear: Send + Sync;
    /// Room for an adapter's low-rank intermediates.
    type Scratch: Send + Sync;
    /// A matrix kept in host memory.
    type Store: Send + Sync;
    /// A loss that may still be under way.
    type Loss;

    /// Does work that is many ops one after another, where that is cheapest to ask for them.
    fn together<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }

    /// A matrix; contents unspecified.
    fn alloc(&self, rows: usize, width: usize) -> Self::Buf {
        let [buf] = self.alloc_joined(rows, [width]);
        buf
    }

    /// Matrices of which each row belongs together, as outputs of linears with one input do: side by side where that
    /// lets the backend compute them at once. Contents unspecified.
    fn alloc_joined<const N: usize>(&self, rows: usize, widths: [usize; N]) -> [Self::Buf; N];

    /// As [`Self::alloc_joined`], in the memory of `lender` from byte `offset` on, as far as [`Sizes::lendable_bytes`] go.
    /// Whoever writes one of these matrices and the lender makes the other's contents unspecified.
    fn alloc_within<const N: usize>(
        &self,
        lender: (&Self::Buf, u64),
        rows: usize,
        widths: [usize; N],
    ) -> [Self::Buf; N];

    /// Room for `len` numbers; contents unspecified.
    fn alloc_floats(&self, len: usize) -> Self::Floats;

    /// Room for what ops need of [`Sizes::scratch_bytes`], at adapter rank `rank`.
    fn alloc_scratch(&self, spec: &Spec, tokens: usize, rank: usize) -> Self::Scratch;

    /// Room for a matrix in host memory.
    fn alloc_store(&self, rows: usize, width: usize) -> Self::Store;

    /// Starts `store = buf[..rows]`. `buf` may be read meanwhile; [`Self::settle`] comes before it is written.
    fn store(&self, shape: (usize, usize), buf: &Self::Buf, store: &mut Self::Store);

    /// Starts `buf[..rows] = store`, after the ops before it; [`Self::settle`] comes before `buf` is used.
    fn load(&self, shape: (usize, usize), store: &mut Self::Store, buf: &mut Self::Buf);

    /// Ops after this come after the last copy to or from `store`.
    fn settle(&self, store: &Self::Store);

    /// Numbers on the device.
    fn upload(&self, values: Vec<f32>) -> Self::Floats;

    /// An adapter's numbers, as products read them.
    fn upload_adapter(&self, values: Vec<f32>) -> Self::Params;

    /// Ids or row numbers, all below `below`.
    ///
    /// # Panics
    /// If one is not.
    fn upload_ids(&self, ids: &[u32], below: usize) -> Self::Ids;

    /// Boundaries of documents whose queries and keys are the same tokens: document i is `bounds[i]..bounds[i + 1]`.
    fn upload_documents(&self, bounds: &[u32]) -> Self::Documents;

    /// Boundaries of documents whose queries are the last of their keys: a cache. There is no backward for those.
    fn upload_continued(&self, queries: &[u32], keys: &[u32]) -> Self::Documents;

    /// A frozen matrix, moved to the device.
    fn upload_linear(&self, weight: FrozenLinear) -> Self::Linear;

    /// A matrix quantized to NF4 on its way from its file to the device. The same bits on every backend.
    ///
    /// # Errors
    /// The file cannot be read, or holds what is not finite. What fails on the device shows in [`Self::health`].
    fn quantize_linear(&self, stored: &dyn StoredMatrix) -> Result<Self::Linear, LoadError> {
        Ok(self.upload_linear(FrozenLinear::Nf4(stored.quantize()?)))
    }

    /// The table that tokens are looked up in; also the head where that is tied.
    fn upload_embeddings(&self, table: DenseMatrix, tied: bool) -> Self::Linear;

    /// `out = buf`, `out.len() / width` rows. Waits for all work before it.
    fn read(&self, buf: &Self::Buf, width: usize, out: &mut [f32]);

    /// Where the largest of the first `width` numbers of the first row is, of equal ones the first; `None` where one is not
    /// finite. Waits for all work before it.
    fn likeliest(&self, width: usize, buf: &Self::Buf) -> Option<u32>;

    /// `buf[..rows] = 0`.
    fn zero(&self, shape: (usize, usize), buf: &mut Self::Buf);

    /// `dst[first..first + rows] = src[..rows]`, rows of `width`: appends to a cache.
    fn copy_rows(&self, shape: (usize, usize), src: &Self::Buf, first: usize, dst: &mut Self::Buf);

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

    /// Multiplies by a frozen matrix: `y_to = x_ti · w_oiᵀ`.
    fn linear_forward(
        &self,
        tokens: usize,
        x_ti: &Self::Buf,
        w_oi: &Self::Linear,
        y_to: &mut Self::Buf,
    );

    /// Frozen linears of one input, each with its adapter: `y_to = x·Wᵀ + bias + s·(x·Aᵀ)·Bᵀ (+ residual_to)`, one `y` for
    /// each linear. With a residual there is one linear.
    fn adapted_forward(
        &self,
        tokens: usize,
        x_ti: &Self::Buf,
        linears: &[AdaptedLinear<'_, Self>],
        scratch: &mut Self::Scratch,
        y_to: &mut [&mut Self::Buf],
        residual_to: Option<&Self::Buf>,
    );

    /// Gradient of [`Self::adapted_forward`] for its input: `dx_ti =`, summed over the linears, where wanted.
    fn adapted_backward(
        &self,
        tokens: usize,
        dy_to: &[&Self::Buf],
        linears: &[AdaptedLinear<'_, Self>],
        scratch: &mut Self::Scratch,
        dx_ti: Option<&mut Self::Buf>,
    );

    /// Gradient of [`Self::adapted_forward`] for A and B: `=`, into `grads` at their offsets less `grad_base`. Comes after
    /// [`Self::adapted_backward`] with the same `dy_to`, which no op used in between; backends keep things beside it.
    fn adapter_gradients(
        &self,
        tokens: usize,
        x_and_dy: (Input<'_, Self::Buf>, &[&Self::Buf]),
        linears: &[AdaptedLinear<'_, Self>],
        scratch: &mut Self::Scratch,
        grads: &mut Self::Floats,
    );

    /// Root-mean-square norm of each row: `rstd_t = 1/√(mean(x²) + eps)`, `y_td = x · rstd · weight_d`. Both `=`.
    fn rms_norm_forward(
        &self,
        norm: Norm<'_, Self::Floats>,
        x_td: &Self::Buf,
        y_td: &mut Self::Buf,
        rstd_t: &mut Self::Floats,
    );

    /// Gradient of the norm for its input: `dx_td += …`. The weight is frozen.
    fn rms_norm_backward(
        &self,
        norm: Norm<'_, Self::Floats>,
        x_and_rstd: (&Self::Buf, &Self::Floats),
        dy_td: &Self::Buf,
        dx_td: &mut Self::Buf,
    );

    /// Rotates each pair of every head (element e with element e + half) by the angle of its position, in place:
    /// `heads` of queries and of keys. [`Turn::Backward`] is the gradient.
    fn rope(
        &self,
        rotation: Rotation<'_, Self::Floats>,
        heads: (usize, usize),
        q_the: &mut Self::Buf,
        k_tke: &mut Self::Buf,
    );

    /// `h_tf = act(gate_tf) · up_tf`; `shape` is tokens and width.
    fn glu_forward(
        &self,
        shape: (usize, usize),
        act: Activation,
        gate_up: (&Self::Buf, &Self::Buf),
        h: &mut Self::Buf,
    );

    /// Gradient of the gated unit, in place: `gate` becomes its own gradient, `up` its own, and `dh` becomes h, as
    /// [`Self::glu_forward`] makes it.
    fn glu_backward(
        &self,
        shape: (usize, usize),
        act: Activation,
        dh: &mut Self::Buf,
        gate_up: (&mut Self::Buf, &mut Self::Buf),
    );

    /// Causal attention within each document, grouped queries: `out_the =`, `lse_th =` (natural logarithm of the sum
    /// of exponentials of the scaled scores). No more than a tile of scores exists at a time. Where a document has
    /// fewer queries than keys, the queries are its last positions.
    fn attention_forward(
        &self,
        shape: AttentionShape,
        documents: &Self::Documents,
        qkv: Qkv<'_, Self::Buf>,
        out_the: &mut Self::Buf,
        lse_th: &mut Self::Floats,
    );

    /// Gradient of [`Self::attention_forward`] for queries, keys and values, all `=`. Queries and keys of a document
    /// are equally many.
    fn attention_backward(
        &self,
        shape: AttentionShape,
        documents: &Self::Documents,
        saved: AttentionSaved<'_, Self>,
        dout_the: &Self::Buf,
        grads: AttentionGrads<'_, Self::Buf>,
    );

    /// Head and cross-entropy of supervised rows in one pass over chunks of rows, so that logits exist for one chunk
    /// only. Gives the sum of −log p(target), summed in f64; `dx_sd = scale · (softmax − onehot) · head_vd`.
    fn cross_entropy(
        &self,
        targets_s: &Self::Ids,
        head_vd: &Self::Linear,
        scale: f32,
        x_sd: &Self::Buf,
        dx_sd: &mut Self::Buf,
    ) -> Self::Loss;

    /// A loss's number. Waits for all work before it.
    fn loss(&self, loss: Self::Loss) -> f64;

    /// Whether all work so far was done. Waits for it.
    ///
    /// # Errors
    /// The first thing that failed since the last call.
    fn health(&self) -> Result<(), DeviceError>;
}
