//! [`Ops`] on CUDA: each op takes its buffers out and hands them to a kernel.

use cudarc::driver::CudaSlice;

use super::profile::OpClass;
use super::store::{HostStore, Way};
use super::{Cuda, CudaLinear, CudaLoss, locked};
use crate::model::loader::LoadError;
use crate::model::{Activation, DenseMatrix, FrozenLinear, Spec, StoredMatrix};
use crate::ops::cuda::attention::DeviceDocuments;
use crate::ops::cuda::{DeviceRows, Halves};
use crate::ops::{
    AdaptedLinear, AttentionGrads, AttentionSaved, AttentionShape, DeviceError, Input, LoraBranch,
    Norm, Ops, Qkv, Rotation, Sizes,
};

/// Something on the device; missing where there was no room, and then no op runs ([`Ops::health`] tells why).
#[derive(Debug)]
pub struct Held<T>(pub(super) Option<T>);

impl<T> Held<T> {
    /// What is held.
    ///
    /// # Panics
    /// If there was no room for it.
    pub fn get(&self) -> &T {
        self.0.as_ref().expect(MISSING)
    }

    /// What is held, to write.
    ///
    /// # Panics
    /// If there was no room for it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(MISSING)
    }
}

impl<T> From<T> for Held<T> {
    fn from(value: T) -> Self {
        Self(Some(value))
    }
}

const MISSING: &str = "a fault ends all work, and a missing buffer is one";

impl Cuda {
    /// Queries, keys and values, taken out.
    fn qkv<'a>(qkv: &Qkv<'a, Held<Halves>>) -> Qkv<'a, Halves> {
        Qkv {
            q: qkv.q.get(),
            k: qkv.k.get(),
            v: qkv.v.get(),
        }
    }

    fn norm<'a>(norm: &Norm<'a, Held<CudaSlice<f32>>>) -> Norm<'a, CudaSlice<f32>> {
        Norm {
            weight: norm.weight.get(),
            eps: norm.eps,
            tokens: norm.tokens,
            width: norm.width,
        }
    }
}

/// Gradients of linears with one input, as one matrix with those behind the first.
fn side_by_side<'a>(dy: &[&'a Held<Halves>]) -> &'a Halves {
    let follows = |pair: &[&Held<Halves>]| pair[0].get().is_followed_by(pair[1].get());
    assert!(
        dy.windows(2).all(follows),
        "gradients of linears with one input lie side by side"
    );
    dy[0].get()
}

/// A linear and its adapter, taken out.
pub(super) fn branch<'a>(linear: &AdaptedLinear<'a, Cuda>) -> Option<LoraBranch<'a, Halves>> {
    let lora = linear.lora?;
    Some(LoraBranch {
        values: lora.values.get(),
        pair: lora.pair,
        scale: lora.scale,
        grad_base: lora.grad_base,
    })
}

impl Sizes for Cuda {
    fn peers_bytes(&self, params: usize) -> u64 {
        self.sizes().peers_bytes(params)
    }

    fn lendable_bytes(&self, rows: usize, width: usize) -> u64 {
        self.sizes().lendable_bytes(rows, width)
    }

    fn is_lean(&self) -> bool {
        self.sizes().is_lean()
    }

    fn matrix_bytes(&self, rows: usize, widths: &[usize]) -> u64 {
        self.sizes().matrix_bytes(rows, widths)
    }

    fn scratch_bytes(&self, spec: &Spec, tokens: usize, rank: usize) -> u64 {
        self.sizes().scratch_bytes(spec, tokens, rank)
    }
}

impl Ops for Cuda {
    type Buf = Held<Halves>;
    type Floats = Held<CudaSlice<f32>>;
    type Params = Held<Halves>;
    type Ids = Held<DeviceRows>;
    type Documents = Held<DeviceDocuments>;
    type Linear = CudaLinear;
    type Scratch = ();
    type Store = Held<HostStore>;
    type Loss = CudaLoss;

    fn alloc_joined<const N: usize>(&self, rows: usize, widths: [usize; N]) -> [Held<Halves>; N] {
        let made = self.attempt(|| self.kernels.halves(rows, &widths, self.tail()));
        let mut made = made.unwrap_or_default().into_iter();
        widths.map(|_| Held(made.next()))
    }

    fn alloc_within<const N: usize>(
        &self,
        (lender, offset): (&Held<Halves>, u64),
        rows: usize,
        widths: [usize; N],
    ) -> [Held<Halves>; N] {
        let made = lender.0.as_ref().map(|lender| {
            let first = usize::try_from(offset / 2).expect("an offset in device memory");
            lender.within(first, rows, &widths, self.tail())
        });
        let mut made = made.unwrap_or_default().into_iter();
        widths.map(|_| Held(made.next()))
    }

    fn alloc_floats(&self, len: usize) -> Held<CudaSlice<f32>> {
        Held(self.attempt(|| {
            let floats = self.kernels.gpu().stream().alloc_zeros(len.max(1));
            floats.map_err(self.kernels.during("making room for numbers"))
        }))
    }

    fn alloc_scratch(&self, spec: &Spec, tokens: usize, rank: usize) {
        self.attempt(|| {
            let len = self.sizes().scratch_len(spec, tokens, rank);
            self.scratch.with(&self.kernels, len, |_| Ok(()))
        });
    }

    fn alloc_store(&self, rows: usize, width: usize) -> Held<HostStore> {
        self.hold(|| self.make_store(rows, width))
    }

    fn store(&self, (rows, _): (usize, usize), buf: &Held<Halves>, store: &mut Held<HostStore>) {
        self.attempt(|| self.copy_store(rows, buf.get(), store.get_mut(), Way::Out));
    }

    fn load(&self, (rows, _): (usize, usize), store: &mut Held<HostStore>, buf: &mut Held<Halves>) {
        self.attempt(|| self.copy_store(rows, buf.get(), store.get_mut(), Way::In));
    }

    fn settle(&self, store: &Held<HostStore>) {
        self.attempt(|| self.settle_store(store.get()));
    }

    fn upload(&self, values: Vec<f32>) -> Held<CudaSlice<f32>> {
        Held(self.attempt(|| {
            let uploaded = self.kernels.gpu().stream().clone_htod(&values);
            uploaded.map_err(self.kernels.during("uploading numbers"))
        }))
    }

    fn upload_adapter(&self, values: Vec<f32>) -> Held<Halves> {
        self.upload_params(&values)
    }

    fn upload_ids(&self, ids: &[u32], below: usize) -> Held<DeviceRows> {
        Held(self.attempt(|| self.kernels.upload_rows(ids, below)))
    }

    fn upload_documents(&self, bounds: &[u32]) -> Held<DeviceDocuments> {
        Held(self.attempt(|| self.attention.documents(&self.kernels, bounds)))
    }

    fn upload_continued(&self, queries: &[u32], keys: &[u32]) -> Held<DeviceDocuments> {
        Held(self.attempt(|| self.attention.continued(&self.kernels, (queries, keys))))
    }

    fn upload_linear(&self, weight: FrozenLinear) -> CudaLinear {
        self.place_linear(&weight)
    }

    fn quantize_linear(&self, stored: &dyn StoredMatrix) -> Result<CudaLinear, LoadError> {
        self.quantize_stored(stored)
    }

    fn upload_embeddings(&self, table: DenseMatrix, tied: bool) -> CudaLinear {
        self.place_table(table, tied)
    }

    fn read(&self, buf: &Held<Halves>, width: usize, out: &mut [f32]) {
        let rows = out.len() / width;
        let read = self.attempt(|| self.kernels.download_halves(buf.get(), rows));
        if let Some(read) = read {
            self.kernels.gpu().half().widen_into(&read, out);
        }
    }

    fn likeliest(&self, width: usize, buf: &Held<Halves>) -> Option<u32> {
        let found = self.attempt(|| self.kernels.likeliest(width, buf.get()));
        found.flatten()
    }

    fn zero(&self, (rows, _): (usize, usize), buf: &mut Held<Halves>) {
        self.measured(OpClass::Elementwise, || {
            self.kernels.clear_rows(rows, buf.get_mut())
        });
    }

    fn copy_rows(
        &self,
        (rows, _): (usize, usize),
        src: &Held<Halves>,
        first: usize,
        dst: &mut Held<Halves>,
    ) {
        self.attempt(|| {
            self.kernels
                .copy_rows(rows, (src.get(), 0), (dst.get_mut(), first))
        });
    }

    fn embed(
        &self,
        ids_t: &Held<DeviceRows>,
        table_vd: &CudaLinear,
        scale: f32,
        out_td: &mut Held<Halves>,
    ) {
        self.measured(OpClass::Elementwise, || {
            self.look_up(ids_t.get(), table_vd, scale, out_td.get_mut())
        });
    }

    fn gather_rows(
        &self,
        rows_s: &Held<DeviceRows>,
        _width: usize,
        x_td: &Held<Halves>,
        out_sd: &mut Held<Halves>,
    ) {
        self.measured(OpClass::Elementwise, || {
            self.kernels
                .gather_rows(rows_s.get(), 1.0, x_td.get(), out_sd.get_mut())
        });
    }

    fn scatter_rows(
        &self,
        rows_s: &Held<DeviceRows>,
        _shape_td: (usize, usize),
        x_sd: &Held<Halves>,
        out_td: &mut Held<Halves>,
    ) {
        self.measured(OpClass::Elementwise, || {
            self.kernels
                .scatter_rows(rows_s.get(), x_sd.get(), out_td.get_mut())
        });
    }

    fn linear_forward(
        &self,
        tokens: usize,
        x_ti: &Held<Halves>,
        w_oi: &CudaLinear,
        y_to: &mut Held<Halves>,
    ) {
        self.attempt(|| self.plain_forward(tokens, x_ti.get(), w_oi, y_to.get_mut()));
    }

    fn adapted_forward(
        &self,
        tokens: usize,
        x_ti: &Held<Halves>,
        linears: &[AdaptedLinear<'_, Self>],
        _scratch: &mut (),
        y_to: &mut [&mut Held<Halves>],
        residual_to: Option<&Held<Halves>>,
    ) {
        self.attempt(|| {
            let mut y: Vec<&mut Halves> = y_to.iter_mut().map(|y| y.get_mut()).collect();
            let residual = residual_to.map(Held::get);
            self.group_forward(tokens, x_ti.get(), linears, &mut y, residual)
        });
    }

    fn adapted_backward(
        &self,
        tokens: usize,
        dy_to: &[&Held<Halves>],
        linears: &[AdaptedLinear<'_, Self>],
        _scratch: &mut (),
        dx_ti: Option<&mut Held<Halves>>,
    ) {
        self.attempt(|| {
            let dy = side_by_side(dy_to);
            self.group_backward(tokens, dy, linears, dx_ti.map(Held::get_mut))
        });
    }

    fn adapter_gradients(
        &self,
        tokens: usize,
        (x_ti, dy_to): (Input<'_, Held<Halves>>, &[&Held<Halves>]),
        linears: &[AdaptedLinear<'_, Self>],
        _scratch: &mut (),
        grads: &mut Held<CudaSlice<f32>>,
    ) {
        self.attempt(|| {
            let dy = side_by_side(dy_to);
            let x = match x_ti {
                Input::Kept(x) => Input::Kept(x.get()),
                Input::Again(x) => Input::Again(x.get()),
            };
            self.group_gradients(tokens, (x, dy), linears, grads.get_mut())
        });
    }

    fn rms_norm_forward(
        &self,
        norm: Norm<'_, Held<CudaSlice<f32>>>,
        x_td: &Held<Halves>,
        y_td: &mut Held<Halves>,
        rstd_t: &mut Held<CudaSlice<f32>>,
    ) {
        self.measured(OpClass::Elementwise, || {
            let (y, rstd) = (y_td.get_mut(), rstd_t.get_mut());
            self.kernels
                .rms_norm_forward(Self::norm(&norm), x_td.get(), y, rstd)
        });
    }

    fn rms_norm_backward(
        &self,
        norm: Norm<'_, Held<CudaSlice<f32>>>,
        (x_td, rstd_t): (&Held<Halves>, &Held<CudaSlice<f32>>),
        dy_td: &Held<Halves>,
        dx_td: &mut Held<Halves>,
    ) {
        self.measured(OpClass::Elementwise, || {
            let read = (x_td.get(), rstd_t.get());
            self.kernels
                .rms_norm_backward(Self::norm(&norm), read, dy_td.get(), dx_td.get_mut())
        });
    }

    fn rope(
        &self,
        rotation: Rotation<'_, Held<CudaSlice<f32>>>,
        heads: (usize, usize),
        q_the: &mut Held<Halves>,
        k_tke: &mut Held<Halves>,
    ) {
        self.measured(OpClass::Elementwise, || {
            let rotation = Rotation {
                cos: rotation.cos.get(),
                sin: rotation.sin.get(),
                tokens: rotation.tokens,
                head_dim: rotation.head_dim,
                turn: rotation.turn,
            };
            self.kernels
                .rope(rotation, heads, q_the.get_mut(), k_tke.get_mut())
        });
    }

    fn glu_forward(
        &self,
        (tokens, _): (usize, usize),
        act: Activation,
        (gate, up): (&Held<Halves>, &Held<Halves>),
        h: &mut Held<Halves>,
    ) {
        self.measured(OpClass::Elementwise, || {
            self.kernels
                .glu_forward(tokens, act, (gate.get(), up.get()), h.get_mut())
        });
    }

    fn glu_backward(
        &self,
        (tokens, _): (usize, usize),
        act: Activation,
        dh: &mut Held<Halves>,
        (gate, up): (&mut Held<Halves>, &mut Held<Halves>),
    ) {
        self.measured(OpClass::Elementwise, || {
            let gate_up = (gate.get_mut(), up.get_mut());
            self.kernels
                .glu_backward(tokens, act, dh.get_mut(), gate_up)
        });
    }

    fn attention_forward(
        &self,
        shape: AttentionShape,
        documents: &Held<DeviceDocuments>,
        qkv: Qkv<'_, Held<Halves>>,
        out_the: &mut Held<Halves>,
        lse_th: &mut Held<CudaSlice<f32>>,
    ) {
        self.measured(OpClass::Attention, || {
            self.attention.forward(
                &self.kernels,
                (shape, documents.get()),
                Self::qkv(&qkv),
                out_the.get_mut(),
                lse_th.get_mut(),
            )
        });
    }

    fn attention_backward(
        &self,
        shape: AttentionShape,
        documents: &Held<DeviceDocuments>,
        saved: AttentionSaved<'_, Self>,
        dout_the: &Held<Halves>,
        grads: AttentionGrads<'_, Held<Halves>>,
    ) {
        self.measured(OpClass::Attention, || {
            let mut delta = locked(&self.delta);
            let needed = documents.get().tokens() * shape.heads;
            if delta.len() < needed {
                let larger = self.kernels.gpu().stream().alloc_zeros(needed);
                *delta = larger.map_err(self.kernels.during("making room for attention"))?;
            }
            let grads = AttentionGrads {
                dq: grads.dq.get_mut(),
                dk: grads.dk.get_mut(),
                dv: grads.dv.get_mut(),
            };
            self.attention.backward(
                &self.kernels,
                (shape, documents.get()),
                (Self::qkv(&saved.qkv), saved.out.get(), saved.lse.get()),
                dout_the.get(),
                grads,
                &mut delta,
            )
        });
    }

    fn cross_entropy(
        &self,
        targets_s: &Held<DeviceRows>,
        head_vd: &CudaLinear,
        scale: f32,
        x_sd: &Held<Halves>,
        dx_sd: &mut Held<Halves>,
    ) -> CudaLoss {
        self.attempt(|| {
            let dx = dx_sd.get_mut();
            self.head_and_loss(targets_s.get(), head_vd, scale, x_sd.get(), dx)
        });
        CudaLoss(())
    }

    fn loss(&self, CudaLoss(()): CudaLoss) -> f64 {
        self.attempt(|| self.read_loss()).unwrap_or(f64::NAN)
    }

    fn health(&self) -> Result<(), DeviceError> {
        self.check()
    }
}
