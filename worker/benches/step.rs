//! One training step of a SmolLM2-135M-shaped model with random NF4 weights: `cargo bench -p weft-worker --bench
//! step`.
//!
//! Prints, for each memory plan, seconds a step, useful FLOP/s, and the share reached of the matrix-product rate that
//! the same machine shows in the same run. Recomputed work is not counted as useful. Rates per processor second hold
//! on a busy machine too.
#![allow(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use weft_common::data::Row;
use weft_common::recipe::LoraSection;
use weft_worker::lora::Adapter;
use weft_worker::model::{
    Activation, Model, ModelWeights, Projection, RandomFormat, RopeScaling, RopeSpec, Spec,
};
use weft_worker::ops::{Cpu, Mat, Out};
use weft_worker::train::{GradSink, MemoryPlan, PackedBatch, Pass};

const ROWS: usize = 4;
const TOKENS_PER_ROW: usize = 128;
const RANK: usize = 16;
const STEPS: usize = 3;

fn main() {
    let spec = smollm2_135m();
    let lora = LoraSection {
        r: RANK as u32,
        ..LoraSection::default()
    };
    let adapter = Adapter::new(&spec, &lora, 1).unwrap();
    let batch = batch(&spec);
    let model = Model::new(
        Cpu::new(),
        spec,
        ModelWeights::random(&smollm2_135m(), 1, RandomFormat::Nf4),
    )
    .unwrap();
    let useful = useful_flops(model.spec(), &batch);
    println!(
        "{} M parameters, {} M trained, {} tokens, {} threads, {:.1} GFLOP useful a step",
        model.spec().parameters() / 1_000_000,
        adapter.layout().len() as f64 / 1e6,
        batch.len(),
        rayon::current_num_threads(),
        useful / 1e9,
    );
    println!("resident after load: {} MB", memory_mb("VmRSS"));
    let plans = [
        ("recompute", MemoryPlan::recompute()),
        ("keep all", MemoryPlan::keep_all(model.spec())),
    ];
    for (name, plan) in plans {
        let product = best_product(model.spec());
        let step = measure(&model, &adapter, &batch, plan);
        let product = product.faster(best_product(model.spec()));
        let share = |step: f64, product: f64| 100.0 * useful / step * product;
        println!(
            "{name:10} {:.3} s/step (best {:.3}), {:.0} GFLOP/s useful = {:.0} % of {:.0}; peak resident {} MB",
            step.median,
            step.best,
            useful / step.median / 1e9,
            share(step.median, product.wall),
            1e-9 / product.wall,
            memory_mb("VmHWM"),
        );
        println!(
            "{:10} {:.2} processor s/step = {:.0} % of {:.0} GFLOP per processor second",
            "",
            step.processor,
            share(step.processor, product.processor),
            1e-9 / product.processor,
        );
    }
}

fn smollm2_135m() -> Spec {
    Spec {
        vocab: 49_152,
        hidden: 576,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ffn: 1536,
        context: 8192,
        rms_eps: 1e-5,
        rope: RopeSpec {
            theta: 100_000.0,
            scaling: RopeScaling::None,
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: true,
    }
}

fn batch(spec: &Spec) -> PackedBatch {
    let row = |row: usize| Row {
        tokens: (0..TOKENS_PER_ROW)
            .map(|i| ((i * 7919 + row * 104_729) % spec.vocab) as u32)
            .collect(),
        supervised: (0..TOKENS_PER_ROW).map(|i| i > 0).collect(),
    };
    PackedBatch::from_rows(&(0..ROWS).map(row).collect::<Vec<_>>())
}

/// What a step takes, in seconds.
struct StepTime {
    median: f64,
    best: f64,
    processor: f64,
}

fn measure(model: &Model, adapter: &Adapter, batch: &PackedBatch, plan: MemoryPlan) -> StepTime {
    let mut pass = Pass::new(plan);
    let mut sum = Sum {
        values: vec![0.0; adapter.layout().len()],
    };
    let scale = 1.0 / batch.supervised() as f32;
    let mut step = || {
        let start = Instant::now();
        black_box(
            pass.forward_backward(model, adapter, batch, scale, &mut sum)
                .unwrap(),
        );
        start.elapsed().as_secs_f64()
    };
    step();
    let processor = processor_seconds();
    let mut times: Vec<f64> = (0..STEPS).map(|_| step()).collect();
    let processor = (processor_seconds() - processor) / STEPS as f64;
    times.sort_by(f64::total_cmp);
    StepTime {
        median: times[STEPS / 2],
        best: times[0],
        processor,
    }
}

struct Sum {
    values: Vec<f32>,
}

impl GradSink for Sum {
    fn accept(&mut self, range: Range<usize>, grad: &Vec<f32>) {
        for (sum, g) in self.values[range].iter_mut().zip(grad) {
            *sum += g;
        }
    }
}

/// FLOPs that any implementation needs: forward, input gradients, adapter, head, causal half of the attention.
fn useful_flops(spec: &Spec, batch: &PackedBatch) -> f64 {
    let tokens = batch.len() as f64;
    let linears = 4.0 * tokens * spec.linear_parameters() as f64;
    let below_the_first_layer: usize = [Projection::Q, Projection::K, Projection::V]
        .iter()
        .map(|&p| spec.shape(p))
        .map(|(o, i)| o * i)
        .sum();
    let adapter: usize = Projection::ALL
        .iter()
        .map(|&p| spec.shape(p))
        .map(|(o, i)| RANK * (o + i))
        .sum::<usize>()
        * spec.layers;
    // Forward, its input's gradient and its own: three products of the adapter's size.
    let adapter = 6.0 * tokens * adapter as f64;
    let head = 4.0 * batch.supervised() as f64 * (spec.vocab * spec.hidden) as f64;
    let pairs: f64 = batch
        .cu_seqlens()
        .windows(2)
        .map(|ends| f64::from(ends[1] - ends[0]).powi(2) / 2.0)
        .sum();
    // Two products forward, five backward.
    let attention = 7.0 * 2.0 * pairs * (spec.layers * spec.q_dim()) as f64;
    linears - 2.0 * tokens * below_the_first_layer as f64 + adapter + head + attention
}

/// Seconds that one FLOP takes.
#[derive(Clone, Copy)]
struct PerFlop {
    wall: f64,
    processor: f64,
}

impl PerFlop {
    fn faster(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            processor: self.processor.min(other.processor),
        }
    }
}

/// The best over products of the layers' shapes and a large square one.
fn best_product(spec: &Spec) -> PerFlop {
    let tokens = ROWS * TOKENS_PER_ROW;
    let shapes = [
        [tokens, spec.ffn, spec.hidden],
        [tokens, spec.hidden, spec.ffn],
        [tokens, spec.hidden, spec.hidden],
        [2048, 2048, 2048],
    ];
    shapes
        .into_iter()
        .map(product)
        .reduce(PerFlop::faster)
        .unwrap()
}

fn product(mnk: [usize; 3]) -> PerFlop {
    let ops = Cpu::new();
    let [m, n, k] = mnk;
    let (a, b, mut c) = (vec![0.5; m * k], vec![0.25; k * n], vec![0.0; m * n]);
    let flops = 2.0 * (m * n * k) as f64;
    // About half a second of processor time on a machine of 100 GFLOP/s a core: enough for the clock's 10 ms.
    let repeats = (5e10 / flops).ceil() as usize;
    let processor = processor_seconds();
    let wall = (0..repeats).map(|_| {
        let start = Instant::now();
        ops.gemm(mnk, 1.0, Mat::new(&a), Mat::transpose(&b), Out::set(&mut c));
        black_box(&c);
        start.elapsed().as_secs_f64()
    });
    let wall = wall.fold(f64::INFINITY, f64::min) / flops;
    PerFlop {
        wall,
        processor: (processor_seconds() - processor) / repeats as f64 / flops,
    }
}

/// Time that all threads of this process have run, in seconds; 0 where the system does not say.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| {
        after_name
            .split_whitespace()
            .nth(field)
            .and_then(|t| t.parse().ok())
            .unwrap_or(0.0)
    };
    // utime and stime are fields 14 and 15; a tick is 10 ms.
    (ticks(11) + ticks(12)) / 100.0
}

/// A line of `/proc/self/status`, in MB; 0 where there is none.
fn memory_mb(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        / 1000
}
