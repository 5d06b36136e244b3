//! Whole passes and steps on the GPU against the CPU backend.

use weft_common::data::Row;
use weft_common::recipe::{LoraSection, TargetModules};
use weft_worker::cuda::HalfFormat;
use weft_worker::lora::Adapter;
use weft_worker::model::{
    Activation, Model, ModelWeights, Projection, RandomFormat, RopeScaling, RopeSpec, Spec,
};
use weft_worker::ops::cuda::{Cuda, CudaOptions};
use weft_worker::ops::{Cpu, Ops};
use weft_worker::train::{Backend as _, MemoryPlan, PackedBatch, Pass};

use crate::peft_case::Collect;
use crate::support::{format, in_format, opened, random, reader};

/// What 16-bit activations may cost a gradient over three layers, in relation to its norm.
fn gradient_tolerance() -> f64 {
    match format() {
        HalfFormat::Bf16 => 3e-2,
        HalfFormat::F16 => 5e-3,
    }
}

/// What the loss is multiplied with, as a trainer does it so that gradients lie within the format's range.
fn loss_scale() -> f32 {
    match format() {
        HalfFormat::Bf16 => 1.0,
        HalfFormat::F16 => 4096.0,
    }
}

fn llama() -> Spec {
    Spec {
        vocab: 1000,
        hidden: 256,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn: 512,
        context: 512,
        rms_eps: 1e-5,
        rope: RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::None,
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: false,
    }
}

fn gemma() -> Spec {
    Spec {
        head_dim: 256,
        heads: 2,
        kv_heads: 1,
        activation: Activation::GeluTanh,
        norm_offset: 1.0,
        embed_scale: 16.0,
        tied_head: true,
        ..llama()
    }
}

fn rows(spec: &Spec, lengths: &[usize]) -> Vec<Row> {
    let row = |(seed, &length): (usize, &usize)| Row {
        tokens: (0..length)
            .map(|i| ((seed * 31 + i * 17 + i * i) % spec.vocab) as u32)
            .collect(),
        supervised: (0..length).map(|i| i > 0 && (i + seed) % 3 != 0).collect(),
    };
    lengths.iter().enumerate().map(row).collect()
}

/// A model's host weights and an adapter whose B is not zero.
struct Case {
    spec: Spec,
    weights: ModelWeights,
    adapter: Adapter,
    rank: usize,
}

impl Case {
    fn new(spec: Spec, rank: u32, targets: Option<&[&str]>) -> Self {
        let mut weights = ModelWeights::random(&spec, 5, RandomFormat::Nf4);
        // As the families store them: norms near 1 with their offset, so that attention's scores stay near 1 too.
        let layers = weights.layers.iter_mut();
        let norms = layers.flat_map(|layer| [&mut layer.attn_norm, &mut layer.mlp_norm]);
        for norm in norms.chain([&mut weights.final_norm]) {
            norm.iter_mut()
                .for_each(|weight| *weight -= spec.norm_offset);
        }
        weights.layers[0].q.bias = Some(random(spec.shape(Projection::Q).0, 8));
        let mut lora = LoraSection {
            r: rank,
            lora_alpha: 16.0,
            ..LoraSection::default()
        };
        if let Some(targets) = targets {
            let names = targets.iter().map(|&name| name.to_owned()).collect();
            lora.target_modules = TargetModules::Names(names);
        }
        let mut adapter = Adapter::new(&spec, &lora, 3).unwrap();
        let tensors = adapter.layout().tensors().to_vec();
        for tensor in tensors
            .iter()
            .filter(|tensor| tensor.name.contains("lora_B"))
        {
            let values = random(tensor.range().len(), tensor.offset as u64);
            let small = values.iter().map(|value| 0.05 * value);
            adapter.values_mut()[tensor.range()]
                .iter_mut()
                .zip(small)
                .for_each(|(place, value)| *place = value);
        }
        Self {
            spec,
            weights,
            adapter,
            rank: rank as usize,
        }
    }

    fn on<B: Ops>(
        &self,
        ops: B,
        adapter: &Adapter<B::Params>,
        read: impl Fn(&B::Floats) -> Vec<f32>,
        rows: &[Row],
        plan: MemoryPlan,
    ) -> (f64, Vec<f32>) {
        let model = Model::new(ops, self.spec.clone(), self.weights.clone()).unwrap();
        self.run(&model, adapter, read, rows, &mut Pass::new(plan))
    }

    fn run<B: Ops>(
        &self,
        model: &Model<B>,
        adapter: &Adapter<B::Params>,
        read: impl Fn(&B::Floats) -> Vec<f32>,
        rows: &[Row],
        pass: &mut Pass<B>,
    ) -> (f64, Vec<f32>) {
        let batch = PackedBatch::from_rows(rows);
        let mut sink = Collect {
            values: vec![f32::NAN; adapter.layout().len()],
            read,
        };
        let scale = loss_scale() / batch.supervised() as f32;
        let loss = pass
            .forward_backward(model, adapter, &batch, scale, &mut sink)
            .unwrap();
        let grads = sink.values.iter().map(|grad| grad / loss_scale()).collect();
        (loss.loss_sum / batch.supervised() as f64, grads)
    }

    fn on_cpu(&self, rows: &[Row]) -> (f64, Vec<f32>) {
        let plan = MemoryPlan::keep_all(&self.spec);
        self.on(Cpu::new(), &self.adapter, Vec::clone, rows, plan)
    }

    fn cuda(&self) -> Option<Cuda> {
        opened(CudaOptions {
            ordinal: 0,
            head_dim: self.spec.head_dim,
            rank: self.rank,
            half: Some(format()),
            lean: true,
            memory_limit: None,
        })
    }

    fn on_gpu(&self, rows: &[Row], plan: MemoryPlan) -> Option<(f64, Vec<f32>)> {
        let cuda = self.cuda()?;
        let adapter = self.adapter.map_ref(|values| cuda.upload_params(values));
        let read = reader(&cuda);
        Some(self.on(cuda, &adapter, read, rows, plan))
    }

    fn compare(&self, rows: &[Row]) {
        let Some((loss, grads)) = self.on_gpu(rows, MemoryPlan::keep_all(&self.spec)) else {
            return;
        };
        let (expected_loss, expected) = self.on_cpu(rows);
        println!("loss {loss} for {expected_loss}");
        assert!(
            (loss / expected_loss - 1.0).abs() < 5e-3,
            "{loss} for {expected_loss}"
        );
        for tensor in self.adapter.layout().tensors() {
            let (ours, theirs) = (&grads[tensor.range()], &expected[tensor.range()]);
            let error = relative_error(ours, theirs);
            println!("{}: relative error {error:.1e}", tensor.name);
            assert!(
                error <= gradient_tolerance(),
                "{}: relative error {error}",
                tensor.name
            );
        }
    }
}

fn relative_error(ours: &[f32], theirs: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| f64::from(*a) - f64::from(*b));
    square(&mut apart.into_iter()) / square(&mut theirs.iter().map(|v| f64::from(*v)))
}

#[test]
pub(crate) fn loss_and_every_gradient_agree_with_the_cpu() {
    for lengths in [&[70, 1, 33, 140][..], &[128, 128], &[5]] {
        let case = Case::new(llama(), 16, None);
        case.compare(&rows(&case.spec, lengths));
    }
}

#[test]
pub(crate) fn gemma_s_conventions_and_wide_heads_agree_too() {
    let case = Case::new(gemma(), 8, None);
    case.compare(&rows(&case.spec, &[70, 33]));
}

#[test]
pub(crate) fn linears_without_an_adapter_stand_beside_those_with_one() {
    let case = Case::new(llama(), 8, Some(&["q_proj", "v_proj", "up_proj"]));
    case.compare(&rows(&case.spec, &[70, 33]));
}

#[test]
pub(crate) fn every_memory_plan_and_every_repetition_gives_the_same_bits() {
    let case = Case::new(llama(), 16, None);
    let rows = rows(&case.spec, &[70, 1, 33, 140]);
    let Some(expected) = case.on_gpu(&rows, MemoryPlan::keep_all(&case.spec)) else {
        return;
    };
    for plan in [
        MemoryPlan::keep_all(&case.spec),
        MemoryPlan::recompute(),
        MemoryPlan::offload(),
    ] {
        assert!(
            case.on_gpu(&rows, plan) == Some(expected.clone()),
            "{plan:?}"
        );
    }
}

#[test]
pub(crate) fn a_pass_that_ran_before_gives_what_a_fresh_one_gives() {
    let case = Case::new(llama(), 16, None);
    let Some(cuda) = case.cuda() else { return };
    let adapter = case.adapter.map_ref(|values| cuda.upload_params(values));
    let read = reader(&cuda);
    let model = Model::new(cuda, case.spec.clone(), case.weights.clone()).unwrap();
    let mut pass = Pass::new(MemoryPlan::recompute());
    for lengths in [&[140, 33][..], &[20], &[33, 70]] {
        let rows = rows(&case.spec, lengths);
        let again = case.run(&model, &adapter, &read, &rows, &mut pass);
        let fresh = case.on_gpu(&rows, MemoryPlan::recompute());
        assert!(fresh == Some(again), "{lengths:?}");
    }
}

#[test]
pub(crate) fn weights_that_stay_in_16_bits_change_no_bit() {
    // Nothing, a part, and everything stays.
    for bytes in [0, 400_000, u64::MAX] {
        let mut case = Case::new(llama(), 16, None);
        let Some(cuda) = case.cuda() else { return };
        let held = cuda.spend(&case.spec, bytes);
        assert!(
            held <= bytes && (bytes == 0 || held > 0),
            "{held} of {bytes}"
        );
        let read = reader(&cuda);
        let model = Model::new(cuda, case.spec.clone(), case.weights.clone()).unwrap();
        let mut pass = Pass::new(MemoryPlan::keep_all(&case.spec));
        for lengths in [&[140, 33][..], &[20], &[33, 70]] {
            // An adapter of other numbers each time, as after an update.
            case.adapter
                .values_mut()
                .iter_mut()
                .for_each(|v| *v *= -1.25);
            let adapter = (case.adapter).map_ref(|values| model.ops().upload_params(values));
            let rows = rows(&case.spec, lengths);
            let with = case.run(&model, &adapter, &read, &rows, &mut pass);
            let without = case.on_gpu(&rows, MemoryPlan::keep_all(&case.spec));
            assert!(without == Some(with), "{bytes} bytes, {lengths:?}");
        }
    }
}

#[test]
fn activations_that_overflow_in_fp16_leave_no_gradient_that_looks_sound() {
    in_format(HalfFormat::F16, || {
        let case = Case::new(
            Spec {
                embed_scale: 1e7,
                ..llama()
            },
            16,
            None,
        );
        let rows = rows(&case.spec, &[70, 33]);
        let Some((loss, grads)) = case.on_gpu(&rows, MemoryPlan::keep_all(&case.spec)) else {
            return;
        };
        assert!(!loss.is_finite(), "{loss}");
        for tensor in case.adapter.layout().tensors() {
            let sick = grads[tensor.range()].iter().any(|grad| !grad.is_finite());
            assert!(sick, "{}", tensor.name);
        }
    });
}
