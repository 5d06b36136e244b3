//! Flash attention: causal within each document, grouped queries, forward and backward.

mod launch;
mod spans;
mod tensor_map;
mod tiles;

use cudarc::driver::{CudaFunction, CudaSlice, DeviceRepr};

use super::{CudaKernels, Halves, count};
use crate::cuda::GpuError;
use crate::ops::{AttentionGrads, AttentionShape, Qkv};

use spans::Span;
use tiles::Tiles;

/// Attention with heads of one size, loaded.
#[derive(Debug)]
pub struct DeviceAttention {
    head_dim: usize,
    tiles: Tiles,
    forward: CudaFunction,
    queries: CudaFunction,
    keys: CudaFunction,
    /// Where keys and values take a launch each.
    values: Option<CudaFunction>,
    delta: CudaFunction,
}

/// Documents of a packed batch, cut into tiles.
#[derive(Debug)]
pub struct DeviceDocuments {
    tokens: usize,
    keys: usize,
    forward: CudaSlice<Span>,
    backward: Option<(CudaSlice<Span>, CudaSlice<Span>)>,
}

/// What the kernels know of the shape.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct KernelShape {
    heads: u32,
    kv_heads: u32,
    scale: f32,
    strides: Strides,
}

/// Row strides, 0 where the kernel does not know the array.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Strides {
    q: u32,
    k: u32,
    v: u32,
    out: u32,
    dout: u32,
    dq: u32,
    dk: u32,
    dv: u32,
}

// SAFETY: plain numbers, laid out as the kernels' struct.
unsafe impl DeviceRepr for KernelShape {}

impl KernelShape {
    fn new(shape: AttentionShape, strides: Strides) -> Self {
        assert!(shape.heads.is_multiple_of(shape.kv_heads), "{shape:?}");
        Self {
            heads: count(shape.heads),
            kv_heads: count(shape.kv_heads),
            scale: shape.scale,
            strides,
        }
    }
}

impl DeviceDocuments {
    /// Queries of all documents.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl DeviceAttention {
    /// Attention with heads of this size: Hopper's own where the GPU is one and there is one for this size.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the GPU was not opened with this head size.
    pub fn new(gpu: &CudaKernels, head_dim: usize) -> Result<Self, GpuError> {
        if gpu.gpu().has(&format!("attention_sm90_{head_dim}")) {
            return Self::load(gpu, head_dim, Tiles::hopper(head_dim));
        }
        Self::portable(gpu, head_dim)
    }

    /// The attention for every GPU, also where there is one of the GPU's own.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the GPU was not opened with this head size.
    pub fn portable(gpu: &CudaKernels, head_dim: usize) -> Result<Self, GpuError> {
        let tiles = Tiles::portable(gpu.gpu().arch(), head_dim);
        Self::load(gpu, head_dim, tiles)
    }

    /// Cuts the documents of a packed batch.
    ///
    /// # Errors
    /// The driver's.
    pub fn documents(
        &self,
        gpu: &CudaKernels,
        bounds: &[u32],
    ) -> Result<DeviceDocuments, GpuError> {
        let tokens = bounds.last().copied().unwrap_or(0) as usize;
        let upload = |spans: Vec<Span>| {
            let uploaded = gpu.gpu().stream().clone_htod(&spans);
            uploaded.map_err(gpu.during("uploading document boundaries"))
        };
        let queries = spans::of_queries(bounds, bounds, self.tiles.queries);
        Ok(DeviceDocuments {
            tokens,
            keys: tokens,
            forward: upload(spans::of_queries(bounds, bounds, self.tiles.forward))?,
            backward: Some((
                upload(queries)?,
                upload(spans::of_keys(bounds, self.tiles.keys))?,
            )),
        })
    }

    /// Cuts documents whose queries are the last of more keys. There is no backward for those.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a document has fewer keys than queries.
    pub fn continued(
        &self,
        gpu: &CudaKernels,
        (queries, keys): (&[u32], &[u32]),
    ) -> Result<DeviceDocuments, GpuError> {
        let spans = spans::of_queries(queries, keys, self.tiles.forward);
        let uploaded = gpu.gpu().stream().clone_htod(&spans);
        Ok(DeviceDocuments {
            tokens: queries.last().copied().unwrap_or(0) as usize,
            keys: keys.last().copied().unwrap_or(0) as usize,
            forward: uploaded.map_err(gpu.during("uploading document boundaries"))?,
            backward: None,
        })
    }

    /// `out_the =`, `lse_th =`, as [`crate::ops::Ops::attention_forward`].
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small or the heads have another size.
    pub fn forward(
        &self,
        gpu: &CudaKernels,
        (shape, documents): (AttentionShape, &DeviceDocuments),
        qkv: Qkv<'_, Halves>,
        out_the: &mut Halves,
        lse_th: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        self.check(shape, documents, &qkv);
        out_the.check("out", documents.tokens, shape.heads * self.head_dim);
        assert!(lse_th.len() >= documents.tokens * shape.heads);
        self.launch_forward(gpu, (shape, documents), qkv, out_the, lse_th)
    }

    /// Gradients of queries, keys and values, all `=`, as [`crate::ops::Ops::attention_backward`], from what the forward
    /// read and wrote. `delta_th` is scratch.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small, the heads have another size, or the documents were made for a forward alone.
    pub fn backward(
        &self,
        gpu: &CudaKernels,
        (shape, documents): (AttentionShape, &DeviceDocuments),
        (qkv, out_the, lse_th): (Qkv<'_, Halves>, &Halves, &CudaSlice<f32>),
        dout_the: &Halves,
        grads: AttentionGrads<'_, Halves>,
        delta_th: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        self.check(shape, documents, &qkv);
        let (tokens, width) = (documents.tokens, shape.heads * self.head_dim);
        out_the.check("out", tokens, width);
        dout_the.check("dout", tokens, width);
        grads.dq.check("dq", tokens, width);
        let kv_width = shape.kv_heads * self.head_dim;
        grads.dk.check("dk", documents.keys, kv_width);
        grads.dv.check("dv", documents.keys, kv_width);
        let rows = tokens * shape.heads;
        assert!(lse_th.len() >= rows && delta_th.len() >= rows);
        self.launch_delta(gpu, (tokens, shape.heads), (dout_the, out_the), delta_th)?;
        self.launch_backward(
            gpu,
            (shape, documents),
            &qkv,
            dout_the,
            (lse_th, delta_th),
            grads,
        )
    }

    fn check(&self, shape: AttentionShape, documents: &DeviceDocuments, qkv: &Qkv<'_, Halves>) {
        assert_eq!(shape.head_dim, self.head_dim, "heads of another size");
        let kv_width = shape.kv_heads * self.head_dim;
        qkv.q
            .check("queries", documents.tokens, shape.heads * self.head_dim);
        qkv.k.check("keys", documents.keys, kv_width);
        qkv.v.check("values", documents.keys, kv_width);
    }
}
