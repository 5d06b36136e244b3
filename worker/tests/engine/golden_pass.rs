//! Logits, loss and adapter gradients against transformers and peft.

use safetensors::SafeTensors;
use serde::Deserialize;
use weft_common::data::Row;
use weft_common::recipe::LoraSection;
use weft_worker::lora::Adapter;
use weft_worker::model::{
    Activation, DenseMatrix, DenseValues, FrozenLinear, LayerWeights, LinearWeights, Model,
    ModelWeights, RopeScaling, RopeSpec, Spec, logits,
};
use weft_worker::ops::Cpu;
use weft_worker::quant::Nf4Matrix;
use weft_worker::train::{MemoryPlan, PackedBatch, Pass};

use crate::support::{Collect, assert_close, f32s, golden};

const BOUND: f32 = 1e-4;

/// The dimensions in `tiny_llama/config.json`, or in `tiny_llama_tied/config.json`.
fn tiny(tied: bool) -> Spec {
    let llama_3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 32.0,
    };
    Spec {
        vocab: 128,
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
            scaling: if tied { RopeScaling::None } else { llama_3 },
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: tied,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Plain,
    Nf4,
}

fn weights(folder: &str, spec: &Spec, format: Format) -> ModelWeights {
    let bytes = golden(&format!("{folder}/model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let get = |name: &str| f32s(&file, &format!("{name}.weight"));
    let table = |name: &str| DenseMatrix {
        rows: spec.vocab,
        cols: spec.hidden,
        values: DenseValues::F32(get(name)),
    };
    let layer = |index: usize| {
        let name = |module: &str| format!("model.layers.{index}.{module}");
        let linear = |module: &str, rows: usize, cols: usize| {
            let values = get(&name(module));
            let weight = match format {
                Format::Nf4 => FrozenLinear::Nf4(Nf4Matrix::quantize(rows, cols, &values)),
                Format::Plain => FrozenLinear::Dense(DenseMatrix {
                    rows,
                    cols,
                    values: DenseValues::F32(values),
                }),
            };
            LinearWeights { weight, bias: None }
        };
        LayerWeights {
            attn_norm: get(&name("input_layernorm")),
            q: linear("self_attn.q_proj", 64, 64),
            k: linear("self_attn.k_proj", 32, 64),
            v: linear("self_attn.v_proj", 32, 64),
            o: linear("self_attn.o_proj", 64, 64),
            mlp_norm: get(&name("post_attention_layernorm")),
            gate: linear("mlp.gate_proj", 96, 64),
            up: linear("mlp.up_proj", 96, 64),
            down: linear("mlp.down_proj", 64, 96),
        }
    };
    ModelWeights {
        embed: table("model.embed_tokens"),
        layers: (0..2).map(layer).collect(),
        final_norm: get("model.norm"),
        head: (!spec.tied_head).then(|| table("lm_head")),
    }
}

#[derive(Deserialize)]
struct Document {
    tokens: Vec<u32>,
    supervised: Vec<bool>,
}

fn check(name: &str, folder: &str, tied: bool, format: Format) {
    let spec = tiny(tied);
    let documents: Vec<Document> =
        serde_json::from_slice(&golden(&format!("{name}.json"))).unwrap();
    let rows: Vec<Row> = documents
        .into_iter()
        .map(|d| Row {
            tokens: d.tokens,
            supervised: d.supervised,
        })
        .collect();
    let batch = PackedBatch::from_rows(&rows);
    let bytes = golden(&format!("{name}.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();

    let lora = LoraSection {
        r: 4,
        lora_alpha: 8.0,
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(&spec, &lora, 0).unwrap();
    let tensors = adapter.layout().tensors().to_vec();
    for tensor in &tensors {
        adapter.values_mut()[tensor.range()].copy_from_slice(&f32s(&file, &tensor.name));
    }
    let model = Model::new(Cpu::new(), spec.clone(), weights(folder, &spec, format)).unwrap();

    let every_row: Vec<u32> = (0..batch.len() as u32).collect();
    let found = logits(&model, Some(&adapter), &batch, &every_row);
    assert_close("logits", &found, &f32s(&file, "logits"), BOUND);

    let mut grads = Collect::new(adapter.layout());
    let scale = 1.0 / batch.supervised() as f32;
    let loss = Pass::new(MemoryPlan::recompute())
        .forward_backward(&model, &adapter, &batch, scale, &mut grads)
        .unwrap();
    let mean = (loss.loss_sum / loss.supervised as f64) as f32;
    assert_close("loss", &[mean], &f32s(&file, "loss"), 1e-5);
    for tensor in &tensors {
        let expected = f32s(&file, &format!("grad.{}", tensor.name));
        assert_close(
            &tensor.name,
            &grads.values[tensor.range()],
            &expected,
            BOUND,
        );
    }
}

#[test]
fn untied_with_llama_3_scaling_equals_transformers_and_peft() {
    check("pass_untied", "tiny_llama", false, Format::Plain);
}

#[test]
fn tied_equals_transformers_and_peft() {
    check("pass_tied", "tiny_llama_tied", true, Format::Plain);
}

#[test]
fn four_bit_base_equals_transformers_and_peft() {
    check("pass_nf4", "tiny_llama", false, Format::Nf4);
}
