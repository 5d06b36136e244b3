//! The CUDA kernels' rates at Llama-3-8B's sizes, beside the copy rate of the same GPU in the same run:
//! `cargo bench -p weft-worker --bench kernels`.
//!
//! A rate is the bytes that the operation must move, each input read once and each output written once, over the
//! median time of a launch. Buffers are larger than the GPU's cache, or several are used in turn.
#![allow(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use cudarc::driver::CudaSlice;
use cudarc::driver::sys::CUevent_flags;
use weft_common::recipe::Optimizer;
use weft_worker::cuda::kernels::HEAD_DIMS;
use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{Compiler, Gpu, Inventory, KernelCache};
use weft_worker::model::Activation;
use weft_worker::ops::cuda::{
    Add, CudaKernels, DeviceAttention, DeviceNf4, Gemm, GroupAdapter, GroupMatrix, GroupPart,
    Halves, Lay, Memory, MomentKind, Product,
};
use weft_worker::ops::{AttentionGrads, AttentionShape, Norm, Qkv, Rotation, Turn};
use weft_worker::quant::Nf4Matrix;
use weft_worker::train::optimizer::AdamWSettings;

const TOKENS: usize = 16_384;
const HIDDEN: usize = 4096;
const FFN: usize = 14_336;
const VOCAB: usize = 128_256;
const CHUNK: usize = 1024;
const ADAPTER: usize = 41_943_040;
const COPY_BYTES: usize = 2 << 30;
const REPEATS: usize = 20;
/// Launches that are timed together, so that the time between two does not count as theirs.
const LAUNCHES: usize = 8;

fn main() {
    let inventory = Inventory::take(&Environment::of_process());
    let obstacles = inventory.obstacles();
    if !obstacles.is_empty() {
        println!("NOT MEASURED, no GPU: {obstacles:?}");
        return;
    }
    let cache = KernelCache::new(std::env::temp_dir().join("weft-test-kernels"));
    let compiler = Compiler::new(inventory.nvrtc.unwrap(), cache);
    let bench =
        Bench::new(CudaKernels::new(Gpu::open(0, &compiler, &HEAD_DIMS, None).unwrap()).unwrap());
    bench.dequantization();
    bench.norms();
    bench.elementwise();
    bench.cross_entropy();
    bench.gradients();
    for head_dim in HEAD_DIMS {
        for (documents, length) in [(2, 2048), (1, 8192), (64, 256)] {
            bench.attention(head_dim, documents, length);
        }
    }
    let gemm = Gemm::new(&bench.gpu, inventory.cublas_lt.unwrap()).unwrap();
    for tokens in [4096, TOKENS] {
        for (outputs, inputs) in [
            (6144, HIDDEN),
            (HIDDEN, HIDDEN),
            (2 * FFN, HIDDEN),
            (HIDDEN, FFN),
        ] {
            bench.product(&gemm, tokens, (outputs, inputs));
        }
    }
}

struct Bench {
    gpu: CudaKernels,
    copy_rate: f64,
}

impl Bench {
    fn new(gpu: CudaKernels) -> Self {
        let mut bench = Self {
            gpu,
            copy_rate: 1.0,
        };
        let stream = bench.gpu.gpu().stream().clone();
        let from = stream.clone_htod(&vec![7_u8; COPY_BYTES]).unwrap();
        let mut to = stream.alloc_zeros::<u8>(COPY_BYTES).unwrap();
        let ms = bench.median_ms(|_| stream.memcpy_dtod(&from, &mut to).unwrap());
        bench.copy_rate = 2.0 * COPY_BYTES as f64 / ms / 1e6;
        println!(
            "{:<34} {ms:>9.3} ms {:>7.0} GB/s",
            "copy, 2 GiB", bench.copy_rate
        );
        bench
    }

    fn median_ms(&self, mut work: impl FnMut(usize)) -> f64 {
        let context = self.gpu.gpu().stream().context().clone();
        let event = || {
            context
                .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
                .unwrap()
        };
        (0..3).for_each(&mut work);
        let mut times: Vec<f32> = (0..REPEATS)
            .map(|i| {
                let (start, end) = (event(), event());
                start.record(self.gpu.gpu().stream()).unwrap();
                (0..LAUNCHES).for_each(|launch| work(i * LAUNCHES + launch));
                end.record(self.gpu.gpu().stream()).unwrap();
                start.elapsed_ms(&end).unwrap() / LAUNCHES as f32
            })
            .collect();
        times.sort_by(f32::total_cmp);
        f64::from(times[REPEATS / 2])
    }

    fn report(&self, name: &str, bytes: usize, work: impl FnMut(usize)) {
        let ms = self.median_ms(work);
        let rate = bytes as f64 / ms / 1e6;
        let share = 100.0 * rate / self.copy_rate;
        println!("{name:<34} {ms:>9.3} ms {rate:>7.0} GB/s {share:>5.1} % of the copy rate");
    }

    fn halves(&self, rows: usize, width: usize) -> Halves {
        let values: Vec<f32> = (0..(rows * width) as u32)
            .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let bits = self.gpu.gpu().half().round(&values);
        self.gpu.upload_halves(rows, width, &bits).unwrap()
    }

    fn floats(&self, len: usize) -> CudaSlice<f32> {
        let values: Vec<f32> = (0..len as u32)
            .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 8) as f32 / (1 << 27) as f32)
            .collect();
        self.gpu.gpu().stream().clone_htod(&values).unwrap()
    }

    /// Matrices of a group, without and with room for their adapters of rank 16.
    fn dequantization(&self) {
        for group in [
            &[HIDDEN, 1024, 1024][..],
            &[FFN, FFN],
            &[HIDDEN],
            &[1024],
            &[FFN],
        ] {
            self.dequantize(group);
        }
    }

    fn dequantize(&self, group: &[usize]) {
        let rows = group.iter().sum::<usize>();
        let block: Vec<f32> = (0..1 << 20)
            .map(|i| ((i * 37 % 1009) as f32 - 504.0) / 1e4)
            .collect();
        let quantized: Vec<_> = group
            .iter()
            .map(|&rows| {
                let values = block.iter().copied().cycle().take(rows * HIDDEN);
                Nf4Matrix::quantize(rows, HIDDEN, &values.collect::<Vec<_>>())
            })
            .collect();
        let copies = ((400 << 20) / (rows * HIDDEN / 2) + 1).min(64);
        let upload = || quantized.iter().map(|matrix| self.gpu.upload_nf4(matrix));
        let matrices: Vec<Vec<_>> = (0..copies)
            .map(|_| upload().collect::<Result<_, _>>().unwrap())
            .collect();
        let bytes: usize = matrices[0].iter().map(DeviceNf4::traffic_bytes).sum();
        let stream = self.gpu.gpu().stream();
        let mut zeros: Vec<_> = (0..4)
            .map(|_| stream.alloc_zeros::<u8>(2 * rows * HIDDEN).unwrap())
            .collect();
        // What writing the result alone takes: no dequantization is faster.
        self.report(
            &format!("its output set to 0, {group:?}"),
            2 * rows * HIDDEN,
            |i| stream.memset_zeros(&mut zeros[i % 4]).unwrap(),
        );
        let b = self.halves(1, rows * 16);
        for rank in [0, 16] {
            let tail = rank * group.len();
            let mut outs: Vec<_> = (0..4).map(|_| self.halves(rows, HIDDEN + tail)).collect();
            let bytes = bytes + rows * (2 * rank + 2 * tail);
            self.report(&format!("nf4 {group:?} + {tail}"), bytes, |i| {
                let matrices = &matrices[i % copies];
                let parts: Vec<_> = matrices
                    .iter()
                    .enumerate()
                    .map(|(part, matrix)| GroupPart {
                        matrix: GroupMatrix::Nf4(matrix),
                        adapter: (rank > 0).then(|| GroupAdapter {
                            b: b.place(),
                            rank,
                            tail_column: part * rank,
                        }),
                    })
                    .collect();
                self.gpu
                    .nf4_dequantize_group(&parts, HIDDEN + tail, outs[i % 4].place_mut())
                    .unwrap();
            });
        }
    }

    fn norms(&self) {
        for tokens in [4096, TOKENS] {
            let len = tokens * HIDDEN;
            let (weight, mut rstd) = (self.floats(HIDDEN), self.floats(tokens));
            let [x, dy, mut y] = [(); 3].map(|()| self.halves(tokens, HIDDEN));
            let norm = || Norm {
                weight: &weight,
                eps: 1e-5,
                tokens,
                width: HIDDEN,
            };
            self.report(
                &format!("rms_norm_forward {tokens}x{HIDDEN}"),
                4 * len,
                |_| {
                    self.gpu
                        .rms_norm_forward(norm(), &x, &mut y, &mut rstd)
                        .unwrap();
                },
            );
            self.report(
                &format!("rms_norm_backward {tokens}x{HIDDEN}"),
                8 * len,
                |_| {
                    self.gpu
                        .rms_norm_backward(norm(), (&x, &rstd), &dy, &mut y)
                        .unwrap();
                },
            );
        }
    }

    fn elementwise(&self) {
        let (mut q, mut k) = (self.halves(TOKENS, 4096), self.halves(TOKENS, 1024));
        let (cos, sin) = (self.floats(TOKENS * 64), self.floats(TOKENS * 64));
        let bytes = 4 * TOKENS * 5120 + 8 * TOKENS * 64;
        self.report("rope 32/8 heads of 128", bytes, |_| {
            let rotation = Rotation {
                cos: &cos,
                sin: &sin,
                tokens: TOKENS,
                head_dim: 128,
                turn: Turn::Forward,
            };
            self.gpu.rope(rotation, (32, 8), &mut q, &mut k).unwrap();
        });
        let len = TOKENS * FFN;
        let mut gate_up = self.halves(TOKENS, 2 * FFN).split(&[FFN, FFN]);
        let (mut up, mut gate) = (gate_up.remove(1), gate_up.remove(0));
        let mut h = self.halves(TOKENS, FFN);
        self.report(&format!("glu_forward {TOKENS}x{FFN}"), 6 * len, |_| {
            self.gpu
                .glu_forward(TOKENS, Activation::Silu, (&gate, &up), &mut h)
                .unwrap();
        });
        self.report(&format!("glu_backward {TOKENS}x{FFN}"), 12 * len, |_| {
            self.gpu
                .glu_backward(TOKENS, Activation::Silu, &mut h, (&mut gate, &mut up))
                .unwrap();
        });
        let rows: Vec<u32> = (0..TOKENS).map(|i| (i * 7919 % VOCAB) as u32).collect();
        let rows = self.gpu.upload_rows(&rows, VOCAB).unwrap();
        let (table, mut out) = (self.halves(VOCAB, HIDDEN), self.halves(TOKENS, HIDDEN));
        self.report(
            &format!("gather_rows {TOKENS}x{HIDDEN}"),
            4 * TOKENS * HIDDEN,
            |_| {
                self.gpu.gather_rows(&rows, 1.0, &table, &mut out).unwrap();
            },
        );
    }

    fn cross_entropy(&self) {
        let targets: Vec<u32> = (0..CHUNK).map(|i| (i * 7919 % VOCAB) as u32).collect();
        let targets = self.gpu.upload_rows(&targets, VOCAB).unwrap();
        let (mut logits, mut losses) = (self.halves(CHUNK, VOCAB), self.floats(CHUNK));
        let mut sum = self.gpu.gpu().stream().alloc_zeros(1).unwrap();
        self.report(
            &format!("cross_entropy {CHUNK}x{VOCAB}"),
            4 * CHUNK * VOCAB,
            |_| {
                self.gpu
                    .cross_entropy(&targets, 1e-3, &mut logits, &mut losses, &mut sum)
                    .unwrap();
            },
        );
    }

    fn gradients(&self) {
        let grads = self.floats(ADAPTER);
        let mut sums = self.gpu.new_sums(Memory::Device, ADAPTER).unwrap();
        self.report("accumulate_fixed 41.9 M", 20 * ADAPTER, |_| {
            self.gpu
                .accumulate((0, ADAPTER), (&grads, 1.0), &mut sums)
                .unwrap();
        });
        // 448 matrices, as an 8B model has at r = 16; sums are read for the norm and again for the update.
        let matrix = ADAPTER / 448 / 256 * 256;
        let len = 448 * matrix;
        let (mut params, mut rounded) = (self.floats(len), self.halves(1, len));
        let mut sums = self.gpu.new_sums(Memory::Device, len).unwrap();
        self.gpu
            .accumulate((0, len), (&grads, 1.0), &mut sums)
            .unwrap();
        for (optimizer, kind, bytes) in [
            (Optimizer::AdamW8bit, MomentKind::Blocks, 16 + 8 + 2 + 4),
            (Optimizer::AdamW, MomentKind::LikeTorch, 16 + 8 + 2 + 16),
        ] {
            let settings = AdamWSettings {
                kind: optimizer,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.01,
            };
            let mut state = self
                .gpu
                .new_adamw(settings, &vec![(matrix, kind); 448])
                .unwrap();
            self.report(&format!("clip_and_adamw {kind:?}"), bytes * len, |_| {
                let scalars = (1e-4, 1.0);
                self.gpu
                    .clip_and_adamw(&mut state, scalars, sums.sums(), &mut params, &mut rounded)
                    .unwrap();
            });
        }
    }

    fn operations(&self, name: &str, operations: f64, work: impl FnMut(usize)) {
        let ms = self.median_ms(work);
        println!(
            "{name:<34} {ms:>9.3} ms {:>7.0} TFLOP/s",
            operations / ms / 1e9
        );
    }

    /// Causal, so that half of the pairs count; the backward counts 2.5 forwards.
    fn attention(&self, head_dim: usize, documents: u32, length: u32) {
        let (heads, kv_heads) = (4096 / head_dim, 1024 / head_dim);
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
        };
        let tokens = (documents * length) as usize;
        let bounds: Vec<u32> = (0..=documents).map(|i| i * length).collect();
        let [q, dout, mut out, mut dq] = [(); 4].map(|()| self.halves(tokens, heads * head_dim));
        let [k, v, mut dk, mut dv] = [(); 4].map(|()| self.halves(tokens, kv_heads * head_dim));
        let (mut lse, mut delta) = (self.floats(tokens * heads), self.floats(tokens * heads));
        let pairs = f64::from(documents) * f64::from(length).powi(2) / 2.0;
        let operations = 4.0 * pairs * (heads * head_dim) as f64;
        let own = DeviceAttention::new(&self.gpu, head_dim).unwrap();
        let portable = DeviceAttention::portable(&self.gpu, head_dim).unwrap();
        for (name, attention) in [("attention", own), ("portable", portable)] {
            let spans = attention.documents(&self.gpu, &bounds).unwrap();
            let qkv = || Qkv {
                q: &q,
                k: &k,
                v: &v,
            };
            let what = format!("{documents}x{length} d{head_dim}");
            self.operations(&format!("{name} forward {what}"), operations, |_| {
                attention
                    .forward(&self.gpu, (shape, &spans), qkv(), &mut out, &mut lse)
                    .unwrap();
            });
            self.operations(&format!("{name} backward {what}"), 2.5 * operations, |_| {
                let grads = AttentionGrads {
                    dq: &mut dq,
                    dk: &mut dk,
                    dv: &mut dv,
                };
                attention
                    .backward(
                        &self.gpu,
                        (shape, &spans),
                        (qkv(), &out, &lse),
                        &dout,
                        grads,
                        &mut delta,
                    )
                    .unwrap();
            });
        }
    }

    /// A linear layer's forward and input gradient; with room for an adapter of rank 16 behind every row, the same.
    fn product(&self, gemm: &Gemm, tokens: usize, (outputs, inputs): (usize, usize)) {
        for tail in [0, 16] {
            let (x_stride, y_stride) = (inputs + tail, outputs + tail);
            let (x, mut y) = (self.halves(tokens, x_stride), self.halves(tokens, y_stride));
            let (w, mut dx) = (
                self.halves(y_stride, x_stride),
                self.halves(tokens, x_stride),
            );
            let forward = Product::new(
                [tokens, outputs, inputs + tail],
                Lay::plain(x_stride),
                Lay::transposed(x_stride),
                y_stride,
            );
            let operations = 2.0 * (tokens * outputs * inputs) as f64;
            let multiply = |product, a: &Halves, c: &mut Halves| {
                let (a, w, c) = (a.place(), w.place(), c.place_mut());
                gemm.multiply(&self.gpu, (product, 1.0), a, w, c, Add::Nothing)
                    .unwrap();
            };
            self.operations(
                &format!("product {tokens} {outputs}x{inputs}+{tail}"),
                operations,
                |_| multiply(forward, &x, &mut y),
            );
            let backward = Product::new(
                [tokens, inputs, outputs + tail],
                Lay::plain(y_stride),
                Lay::plain(x_stride),
                x_stride,
            );
            self.operations(
                &format!("its gradient {tokens} {outputs}x{inputs}+{tail}"),
                operations,
                |_| multiply(backward, &y, &mut dx),
            );
        }
    }
}
