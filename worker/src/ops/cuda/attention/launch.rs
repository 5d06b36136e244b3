//! The launches. Lengths were checked by the callers.

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{CudaFunction, CudaSlice, LaunchArgs, LaunchConfig, PushKernelArg};

use super::super::{CudaKernels, Halves, blocks, count, push_halves};
use super::spans::Span;
use super::tensor_map::TensorMap;
use super::tiles::Tiles;
use super::{DeviceAttention, DeviceDocuments, KernelShape, Strides};
use crate::cuda::GpuError;
use crate::ops::{AttentionGrads, AttentionShape, Qkv};

/// Rows of a copied box, unless it is of queries in the keys' backward.
const BOX_ROWS: u32 = 128;
/// Rows of those.
const QUERY_BOX_ROWS: u32 = 64;

/// An operand [tokens, heads, head_dim]: the array, its tokens and heads, rows of a box.
type Operand<'a> = (&'a Halves, usize, usize, u32);

impl DeviceAttention {
    pub(super) fn load(gpu: &CudaKernels, head_dim: usize, tiles: Tiles) -> Result<Self, GpuError> {
        let stem = if tiles.hopper {
            "attention_sm90"
        } else {
            "attention"
        };
        let file = format!("{stem}_{head_dim}");
        let find = |name: &str, shared: usize| {
            let function = gpu.gpu().kernel(&file, name)?;
            let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = i32::try_from(shared).unwrap_or(i32::MAX);
            function
                .set_attribute(limit, bytes)
                .map_err(gpu.during("asking for shared memory"))?;
            Ok::<CudaFunction, GpuError>(function)
        };
        let [forward, queries, keys] = tiles.shared;
        Ok(Self {
            head_dim,
            tiles,
            forward: find("attention_forward", forward)?,
            queries: find("attention_backward_queries", queries)?,
            keys: find("attention_backward_keys", keys)?,
            values: (head_dim == 256)
                .then(|| find("attention_backward_values", keys))
                .transpose()?,
            delta: gpu.gpu().kernel("attention_delta", "attention_delta")?,
        })
    }

    fn config(&self, heads: usize, spans: &CudaSlice<Span>, shared: usize) -> LaunchConfig {
        LaunchConfig {
            grid_dim: (count(heads), count(spans.len()), 1),
            block_dim: (self.tiles.threads, 1, 1),
            shared_mem_bytes: count(shared),
        }
    }

    /// Maps for the copy engine, where it is used; none elsewhere.
    fn maps(
        &self,
        gpu: &CudaKernels,
        operands: &[Operand<'_>],
    ) -> Result<Vec<TensorMap>, GpuError> {
        if !self.tiles.hopper {
            return Ok(Vec::new());
        }
        operands
            .iter()
            .map(|&(array, tokens, heads, rows)| {
                let dims = (tokens, heads, self.head_dim);
                TensorMap::new((array, gpu.gpu().half()), dims, rows)
                    .map_err(gpu.during("mapping attention's operands"))
            })
            .collect()
    }

    pub(super) fn launch_forward(
        &self,
        gpu: &CudaKernels,
        (shape, documents): (AttentionShape, &DeviceDocuments),
        qkv: Qkv<'_, Halves>,
        out_the: &mut Halves,
        lse_th: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let (tokens, keys) = (documents.tokens, documents.keys);
        let operands = [
            (qkv.q, tokens, shape.heads, BOX_ROWS),
            (qkv.k, keys, shape.kv_heads, BOX_ROWS),
            (qkv.v, keys, shape.kv_heads, BOX_ROWS),
        ];
        let maps = self.maps(gpu, &operands)?;
        let strides = Strides {
            out: count(out_the.stride()),
            ..Strides::of_inputs(&qkv)
        };
        let kernel_shape = KernelShape::new(shape, strides);
        let out = out_the.address();
        let config = self.config(shape.heads, &documents.forward, self.tiles.shared[0]);
        let mut launch = gpu.gpu().stream().launch_builder(&self.forward);
        push(&mut launch, &maps, &operands);
        launch.arg(&documents.forward).arg(&kernel_shape);
        launch.arg(&out).arg(lse_th);
        // SAFETY: the arguments are the kernel's, sizes were checked, and spans lie within the tokens.
        unsafe { launch.launch(config) }
            .map(drop)
            .map_err(gpu.during("attention_forward"))
    }

    /// `delta = Σ dout · out` of each head.
    pub(super) fn launch_delta(
        &self,
        gpu: &CudaKernels,
        (tokens, heads): (usize, usize),
        (dout_the, out_the): (&Halves, &Halves),
        delta_th: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let threads = (heads * self.head_dim / 8).next_multiple_of(32).min(512);
        let (heads, head_dim) = (count(heads), count(self.head_dim));
        let mut launch = gpu.gpu().stream().launch_builder(&self.delta);
        push_halves(&mut launch, dout_the);
        push_halves(&mut launch, out_the);
        launch.arg(&heads).arg(&head_dim).arg(delta_th);
        // SAFETY: the arguments are the kernel's, and sizes were checked.
        unsafe { launch.launch(blocks(count(tokens), count(threads))) }
            .map(drop)
            .map_err(gpu.during("attention_delta"))
    }

    pub(super) fn launch_backward(
        &self,
        gpu: &CudaKernels,
        (shape, documents): (AttentionShape, &DeviceDocuments),
        qkv: &Qkv<'_, Halves>,
        dout_the: &Halves,
        (lse_th, delta_th): (&CudaSlice<f32>, &CudaSlice<f32>),
        grads: AttentionGrads<'_, Halves>,
    ) -> Result<(), GpuError> {
        let (query_spans, key_spans) = documents
            .backward
            .as_ref()
            .expect("the documents were made for a backward too");
        let strides = Strides {
            dout: count(dout_the.stride()),
            dq: count(grads.dq.stride()),
            dk: count(grads.dk.stride()),
            dv: count(grads.dv.stride()),
            ..Strides::of_inputs(qkv)
        };
        let kernel_shape = KernelShape::new(shape, strides);
        let [dq, dk, dv] = [&*grads.dq, &*grads.dk, &*grads.dv].map(Halves::address);
        let operands = |query_rows| {
            [
                (qkv.q, documents.tokens, shape.heads, query_rows),
                (qkv.k, documents.keys, shape.kv_heads, BOX_ROWS),
                (qkv.v, documents.keys, shape.kv_heads, BOX_ROWS),
                (dout_the, documents.tokens, shape.heads, query_rows),
            ]
        };

        let of_queries = operands(BOX_ROWS);
        let maps = self.maps(gpu, &of_queries)?;
        let config = self.config(shape.heads, query_spans, self.tiles.shared[1]);
        let mut launch = gpu.gpu().stream().launch_builder(&self.queries);
        push(&mut launch, &maps, &of_queries);
        launch.arg(lse_th).arg(delta_th).arg(query_spans);
        launch.arg(&kernel_shape).arg(&dq);
        // SAFETY: as in the forward.
        unsafe { launch.launch(config) }.map_err(gpu.during("attention_backward_queries"))?;

        let of_keys = operands(QUERY_BOX_ROWS);
        let maps = self.maps(gpu, &of_keys)?;
        let config = self.config(shape.kv_heads, key_spans, self.tiles.shared[2]);
        for kernel in [Some(&self.keys), self.values.as_ref()]
            .into_iter()
            .flatten()
        {
            let mut launch = gpu.gpu().stream().launch_builder(kernel);
            push(&mut launch, &maps, &of_keys);
            launch.arg(lse_th).arg(delta_th).arg(key_spans);
            launch.arg(&kernel_shape).arg(&dk).arg(&dv);
            // SAFETY: as in the forward.
            unsafe { launch.launch(config) }.map_err(gpu.during("attention_backward_keys"))?;
        }
        Ok(())
    }
}

impl Strides {
    fn of_inputs(qkv: &Qkv<'_, Halves>) -> Self {
        Self {
            q: count(qkv.q.stride()),
            k: count(qkv.k.stride()),
            v: count(qkv.v.stride()),
            ..Self::default()
        }
    }
}

/// The operands as the kernel takes them: maps where there are any, else pointers.
fn push<'a>(launch: &mut LaunchArgs<'a>, maps: &'a [TensorMap], operands: &[Operand<'a>]) {
    if maps.is_empty() {
        for (array, ..) in operands {
            launch.arg(array.address_arg());
        }
    }
    for map in maps {
        launch.arg(map);
    }
}
