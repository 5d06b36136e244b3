//! GGUF files, written here as llama.cpp's converter lays them out.

use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::checkpoint::Checkpoint;
use super::{assert_refused, golden, load, load_in_4bit, values};
use crate::model::{self, Model, Projection};
use crate::ops::Cpu;
use crate::train::PackedBatch;

/// Names, and whether their rows are permuted by heads.
fn converted_name(name: &str) -> (String, Option<usize>) {
    let table = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let renamed = table
        .iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    let heads = [("q_proj", 4), ("k_proj", 2)]
        .into_iter()
        .find(|(part, _)| name.contains(part));
    (renamed, heads.map(|(_, heads)| heads))
}

/// The converter's own expression: `reshape(heads, 2, rows / heads / 2, cols).swapaxes(1, 2)`.
fn permute(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, cols) = tensor.dims2().unwrap();
    let split = tensor.reshape((heads, 2, rows / heads / 2, cols)).unwrap();
    split
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
        .reshape((rows, cols))
        .unwrap()
}

/// The golden model's tensors under their GGUF names.
fn converted(checkpoint: &Checkpoint) -> Vec<(String, Tensor)> {
    let convert = |(name, tensor): (&String, &super::checkpoint::Tensor)| {
        let (name, heads) = converted_name(name);
        let tensor = Tensor::from_vec(tensor.values(), tensor.shape.clone(), &Device::Cpu).unwrap();
        let tensor = heads.map_or_else(|| tensor.clone(), |heads| permute(&tensor, heads));
        (name, tensor)
    };
    checkpoint.tensors.iter().map(convert).collect()
}

fn metadata() -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.block_count", Value::U32(2)),
        ("llama.context_length", Value::U32(256)),
        ("llama.embedding_length", Value::U32(64)),
        ("llama.feed_forward_length", Value::U32(96)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.rope.dimension_count", Value::U32(16)),
    ]
}

fn write(path: &Path, metadata: &[(&str, Value)], tensors: &[(String, QTensor)]) {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = std::fs::File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}

/// Matrices in `dtype`, vectors in f32.
fn quantized(tensors: &[(String, Tensor)], dtype: GgmlDType) -> Vec<(String, QTensor)> {
    let quantize = |(name, tensor): &(String, Tensor)| {
        let dtype = if tensor.dims().len() == 1 {
            GgmlDType::F32
        } else {
            dtype
        };
        (name.clone(), QTensor::quantize(tensor, dtype).unwrap())
    };
    tensors.iter().map(quantize).collect()
}

#[test]
fn it_loads_to_the_folder_that_it_was_made_of() {
    let checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let folder = load(&golden("tiny_llama")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for dtype in [GgmlDType::F32, GgmlDType::BF16] {
        let path = directory.path().join("model.gguf");
        write(
            &path,
            &metadata(),
            &quantized(&converted(&checkpoint), dtype),
        );
        let model = load(&path).unwrap();
        assert_eq!(
            (model.spec.hidden, model.spec.vocab, model.spec.head_dim),
            (64, 128, 16)
        );
        for (found, expected) in model.weights.layers.iter().zip(&folder.weights.layers) {
            assert_eq!(found.attn_norm, expected.attn_norm);
            for projection in Projection::ALL {
                let (found, expected) = (found.linear(projection), expected.linear(projection));
                assert_eq!(
                    values(&found.weight),
                    values(&expected.weight),
                    "{projection:?} in {dtype:?}"
                );
            }
        }
    }
}

#[test]
fn quantized_types_load_to_what_they_dequantize_to() {
    let checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let directory = tempfile::tempdir().unwrap();
    for dtype in [
        GgmlDType::F16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
    ] {
        let path = directory.path().join("model.gguf");
        write(
            &path,
            &metadata(),
            &quantized(&converted(&checkpoint), dtype),
        );
        let (dense, in_4bit) = (load(&path).unwrap(), load_in_4bit(&path).unwrap());
        for projection in Projection::ALL {
            let name = format!("model.layers.1.{}.weight", projection.module());
            let source = &checkpoint.tensors[&name];
            let source =
                Tensor::from_vec(source.values(), source.shape.clone(), &Device::Cpu).unwrap();
            // Quantization works along rows, so it does not see their order.
            let expected = QTensor::quantize(&source, dtype)
                .unwrap()
                .dequantize(&Device::Cpu)
                .unwrap();
            let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            let found = values(&dense.weights.layers[1].linear(projection).weight);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= expected.abs() / 1024.0,
                    "{projection:?} in {dtype:?}"
                );
            }
            let (rows, cols) = dense.spec.shape(projection);
            let requantized = crate::quant::Nf4Matrix::quantize(rows, cols, &expected);
            let crate::model::FrozenLinear::Nf4(found) =
                &in_4bit.weights.layers[1].linear(projection).weight
            else {
                panic!("{projection:?} is not in 4 bits");
            };
            assert_eq!(
                found.packed(),
                requantized.packed(),
                "{projection:?} in {dtype:?}"
            );
        }
    }
}

/// `rope_freqs.weight` of the golden model.
fn rotary_factors() -> (String, Tensor) {
    // The converter's formula, from the notes of the format: wavelengths against the original context of 32.
    let factors: Vec<f32> = (0..8)
        .map(|pair| {
            let wavelength = std::f64::consts::TAU * 10_000_f64.powf(f64::from(pair) / 8.0);
            let smooth = (32.0 / wavelength - 1.0) / (4.0 - 1.0);
            let between = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
            if wavelength < 32.0 / 4.0 {
                1.0
            } else if wavelength > 32.0 {
                8.0
            } else {
                between as f32
            }
        })
        .collect();
    (
        "rope_freqs.weight".to_owned(),
        Tensor::from_vec(factors, 8, &Device::Cpu).unwrap(),
    )
}

#[test]
fn a_converted_model_computes_the_same_logits() {
    let mut tensors = converted(&Checkpoint::read(&golden("tiny_llama")));
    tensors.push(rotary_factors());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    write(&path, &metadata(), &quantized(&tensors, GgmlDType::F32));
    let logits = |path: &Path| {
        let loaded = load(path).unwrap();
        let model = Model::new(Cpu::new(), loaded.spec, loaded.weights).unwrap();
        let tokens: Vec<u32> = (0..96).map(|i| (7 * i) % 128).collect();
        model::logits(
            &model,
            None,
            &PackedBatch::from_tokens(&tokens),
            &[0, 50, 95],
        )
    };
    for (found, expected) in logits(&path).iter().zip(logits(&golden("tiny_llama"))) {
        assert!((found - expected).abs() <= 1e-5, "{found} {expected}");
    }
}

#[test]
fn without_an_output_tensor_the_head_is_tied() {
    let mut tensors = converted(&Checkpoint::read(&golden("tiny_llama")));
    tensors.retain(|(name, _)| name != "output.weight");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    write(&path, &metadata(), &quantized(&tensors, GgmlDType::Q8_0));
    let model = load(&path).unwrap();
    assert!(model.spec.tied_head && model.weights.head.is_none());
    assert_eq!(
        model.weights.embed.bytes(),
        2 * 128 * 64,
        "quantized embeddings become 16-bit"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let tensors = converted(&Checkpoint::read(&golden("tiny_llama")));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let changed = |key: &'static str, value: Value| {
        let mut metadata = metadata();
        metadata.retain(|(existing, _)| *existing != key);
        metadata.push((key, value));
        metadata
    };
    let f32s = quantized(&tensors, GgmlDType::F32);
    write(
        &path,
        &changed("general.architecture", Value::String("mamba".to_owned())),
        &f32s,
    );
    assert_refused(load(&path), &["mamba", "llama", "model.gguf"]);
    write(
        &path,
        &changed("llama.feed_forward_length", Value::U32(128)),
        &f32s,
    );
    assert_refused(
        load(&path),
        &["blk.0.ffn_gate.weight", "[96, 64]", "[128, 64]"],
    );
    write(&path, &changed("llama.block_count", Value::U32(3)), &f32s);
    assert_refused(load(&path), &["blk.2.attn_norm.weight", "model.gguf"]);
    write(&path, &changed("llama.block_count", Value::U32(1)), &f32s);
    assert_refused(load(&path), &["more layers than the 1"]);
    write(
        &path,
        &changed("llama.rope.dimension_count", Value::U32(8)),
        &f32s,
    );
    assert_refused(load(&path), &["llama.rope.dimension_count", "8", "16"]);
    write(
        &path,
        &changed("llama.rope.scaling.type", Value::String("yarn".to_owned())),
        &f32s,
    );
    assert_refused(load(&path), &["yarn", "linear"]);
    let mut metadata = metadata();
    metadata.retain(|(key, _)| *key != "llama.embedding_length");
    write(&path, &metadata, &f32s);
    assert_refused(load(&path), &["llama.embedding_length"]);
}

#[test]
fn a_truncated_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let tensors = quantized(
        &converted(&Checkpoint::read(&golden("tiny_llama"))),
        GgmlDType::Q8_0,
    );
    write(&path, &metadata(), &tensors);
    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 3, 20, 500, bytes.len() / 2, bytes.len() - 40] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        assert_refused(load(&path), &["model.gguf"]);
    }
}
