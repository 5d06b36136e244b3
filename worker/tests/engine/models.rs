//! Small models, adapters and batches for the engine's tests.

use weft_common::data::Row;
use weft_common::recipe::{LoraSection, TargetModules};
use weft_worker::lora::Adapter;
use weft_worker::model::{
    Activation, FrozenLinear, Model, ModelWeights, Projection, RandomFormat, RopeScaling, RopeSpec,
    Spec,
};
use weft_worker::ops::Cpu;
use weft_worker::train::{MemoryPlan, PackedBatch, Pass, SlotLoss};

use crate::support::Collect;

/// Two layers, grouped queries, llama-3 scaling that touches all three ranges of frequencies, a separate head.
pub(crate) fn llama() -> Spec {
    let scaling = RopeScaling::Llama3 {
        factor: 4.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64.0,
    };
    Spec {
        vocab: 97,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        context: 256,
        rms_eps: 1e-5,
        rope: RopeSpec {
            theta: 10_000.0,
            scaling,
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: false,
    }
}

/// The conventions of Gemma: tied head, GELU, norms around 1, scaled embeddings, heads wider than the residual stream.
pub(crate) fn gemma() -> Spec {
    Spec {
        head_dim: 24,
        rope: RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::Linear { factor: 2.0 },
        },
        activation: Activation::GeluTanh,
        norm_offset: 1.0,
        embed_scale: 8.0,
        tied_head: true,
        ..llama()
    }
}

/// A frozen model, its host weights, an adapter whose B is not zero, and documents of several lengths.
pub(crate) struct Case {
    pub(crate) spec: Spec,
    pub(crate) weights: ModelWeights,
    pub(crate) model: Model,
    pub(crate) adapter: Adapter,
    pub(crate) rows: Vec<Row>,
}

impl Case {
    pub(crate) fn new(spec: Spec) -> Self {
        Self::with(spec, RandomFormat::F32, &[7, 70, 1, 33])
    }

    pub(crate) fn with(spec: Spec, format: RandomFormat, lengths: &[usize]) -> Self {
        Self::targeting(TargetModules::default(), spec, format, lengths)
    }

    pub(crate) fn targeting(
        target_modules: TargetModules,
        spec: Spec,
        format: RandomFormat,
        lengths: &[usize],
    ) -> Self {
        let mut weights = ModelWeights::random(&spec, 5, format);
        for (index, layer) in weights.layers.iter_mut().enumerate() {
            // Biases on some linears, so that both paths run.
            layer.q.bias = (index == 0).then(|| numbers(spec.shape(Projection::Q).0, 0.31, 0.1));
            layer.down.bias =
                (index == 1).then(|| numbers(spec.shape(Projection::Down).0, 0.17, 0.1));
        }
        let lora = LoraSection {
            r: 4,
            lora_alpha: 6.0,
            target_modules,
            ..LoraSection::default()
        };
        let mut adapter = Adapter::new(&spec, &lora, 3).unwrap();
        for tensor in adapter
            .layout()
            .clone()
            .tensors()
            .iter()
            .filter(|tensor| tensor.name.contains("lora_B"))
        {
            let values = numbers(tensor.range().len(), 0.7 + tensor.offset as f32, 0.2);
            adapter.values_mut()[tensor.range()].copy_from_slice(&values);
        }
        let model = Model::new(Cpu::new(), spec.clone(), weights.clone()).unwrap();
        let rows = lengths
            .iter()
            .enumerate()
            .map(|(i, &length)| row(&spec, i, length))
            .collect();
        Self {
            spec,
            weights,
            model,
            adapter,
            rows,
        }
    }

    /// Loss and gradient of the rows packed together.
    pub(crate) fn run(&self, plan: MemoryPlan) -> (SlotLoss, Vec<f32>) {
        self.run_rows(&self.rows, plan)
    }

    /// Loss and gradient of some rows packed together.
    pub(crate) fn run_rows(&self, rows: &[Row], plan: MemoryPlan) -> (SlotLoss, Vec<f32>) {
        let batch = PackedBatch::from_rows(rows);
        let mut grads = Collect::new(self.adapter.layout());
        let mut pass = Pass::new(plan);
        let loss = pass
            .forward_backward(&self.model, &self.adapter, &batch, self.scale(), &mut grads)
            .unwrap();
        (loss, grads.values)
    }

    /// One over the supervised tokens of all rows.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / PackedBatch::from_rows(&self.rows).supervised() as f32
    }
}

/// A row in which about two thirds are supervised.
pub(crate) fn row(spec: &Spec, seed: usize, length: usize) -> Row {
    Row {
        tokens: (0..length)
            .map(|i| ((seed * 31 + i * 17 + i * i) % spec.vocab) as u32)
            .collect(),
        supervised: (0..length)
            .map(|i| i > 0 && !(i + seed).is_multiple_of(3))
            .collect(),
    }
}

/// Numbers between ±`size` without a visible pattern.
pub(crate) fn numbers(len: usize, seed: f32, size: f32) -> Vec<f32> {
    (0..len)
        .map(|i| size * ((i as f32 * 12.9898 + seed).sin() * 43_758.547).fract())
        .collect()
}

/// A frozen matrix as f32.
pub(crate) fn dense(weight: &FrozenLinear) -> Vec<f32> {
    let mut values = vec![f32::NAN; weight.rows() * weight.cols()];
    weight.rows_into(0..weight.rows(), &mut values);
    values
}
