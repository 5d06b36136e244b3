//! Folders with 16-bit weights.

use super::super::{check_context, model_digest, read_spec};
use super::checkpoint::Checkpoint;
use super::{golden, load, load_in_4bit, values};
use crate::model::{Activation, Projection, RopeScaling, Spec};
use crate::quant::Nf4Matrix;

#[test]
fn the_configuration_of_transformers_5_becomes_a_spec() {
    let spec = read_spec(&golden("tiny_llama")).unwrap();
    let expected = Spec {
        vocab: 128,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        context: 256,
        rms_eps: 1e-5,
        rope: crate::model::RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 32.0,
            },
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: false,
    };
    assert_eq!(spec, expected);
}

#[test]
fn the_configuration_of_transformers_4_says_the_same() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let config = checkpoint.config.as_object_mut().unwrap();
    let mut rope = config.remove("rope_parameters").unwrap();
    let theta = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
    rope["type"] = rope["rope_type"].clone();
    config.insert("rope_theta".to_owned(), theta);
    config.insert("rope_scaling".to_owned(), rope);
    config.remove("head_dim");
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    assert_eq!(
        read_spec(folder.path()).unwrap(),
        read_spec(&golden("tiny_llama")).unwrap()
    );
}

#[test]
fn sixteen_bit_tensors_are_kept_as_they_are() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let model = load(&golden("tiny_llama")).unwrap();
    for (index, layer) in model.weights.layers.iter().enumerate() {
        for projection in Projection::ALL {
            let name = format!("model.layers.{index}.{}.weight", projection.module());
            let expected = checkpoint.tensor(&name).values();
            assert_eq!(values(&layer.linear(projection).weight), expected, "{name}");
        }
        let norm = format!("model.layers.{index}.post_attention_layernorm.weight");
        assert_eq!(layer.mlp_norm, checkpoint.tensor(&norm).values());
    }
    let head = crate::model::FrozenLinear::Dense(model.weights.head.unwrap());
    assert_eq!(values(&head), checkpoint.tensor("lm_head.weight").values());
    assert_eq!(head.bytes(), 2 * 128 * 64, "the head stays in 16 bits");
}

#[test]
fn linears_are_quantized_piece_by_piece_as_they_would_be_at_once() {
    let whole = load(&golden("tiny_llama")).unwrap();
    let model = load_in_4bit(&golden("tiny_llama")).unwrap();
    for (dense, quantized) in whole.weights.layers.iter().zip(&model.weights.layers) {
        for projection in Projection::ALL {
            let (dense, quantized) = (
                &dense.linear(projection).weight,
                &quantized.linear(projection).weight,
            );
            let expected = Nf4Matrix::quantize(dense.rows(), dense.cols(), &values(dense));
            let crate::model::FrozenLinear::Nf4(found) = quantized else {
                panic!("{projection:?} is not quantized");
            };
            assert_eq!(
                found.clone().with_dtype(expected.dtype()),
                expected,
                "{projection:?}"
            );
        }
    }
}

#[test]
fn shards_load_as_one_file_does() {
    let checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write_shards(folder.path(), 3);
    assert_eq!(
        load(folder.path()).unwrap().weights,
        load(&golden("tiny_llama")).unwrap().weights
    );
}

#[test]
fn a_tied_head_is_the_embeddings_whatever_else_the_file_holds() {
    let model = load(&golden("tiny_llama_tied")).unwrap();
    assert!(model.spec.tied_head && model.weights.head.is_none());
    assert_eq!(model.spec.rope.scaling, RopeScaling::None);
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama_tied"));
    let embed = checkpoint.tensor("model.embed_tokens.weight").clone();
    checkpoint
        .tensors
        .insert("lm_head.weight".to_owned(), embed);
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    assert_eq!(load(folder.path()).unwrap().weights, model.weights);
}

#[test]
fn biases_are_loaded_where_the_file_has_them() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let bias: Vec<f32> = (0..32).map(|i| i as f32).collect();
    let name = "model.layers.1.self_attn.k_proj.bias".to_owned();
    checkpoint
        .tensors
        .insert(name, super::checkpoint::Tensor::f32(&[32], &bias));
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    let model = load(folder.path()).unwrap();
    assert_eq!(model.weights.layers[1].k.bias.as_deref(), Some(&bias[..]));
    assert_eq!(model.weights.layers[0].k.bias, None);
}

#[test]
fn the_digest_follows_the_content_and_not_the_place() {
    let checkpoint = Checkpoint::read(&golden("tiny_llama"));
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint.write(here.path());
    checkpoint.write(there.path());
    let digest = model_digest(here.path()).unwrap();
    assert_eq!(model_digest(there.path()).unwrap(), digest);
    assert_eq!(load(there.path()).unwrap().digest, digest);
    let mut changed = checkpoint.clone();
    *changed
        .tensor("model.norm.weight")
        .bytes
        .last_mut()
        .unwrap() ^= 1;
    changed.write(there.path());
    assert_ne!(
        model_digest(there.path()).unwrap(),
        digest,
        "another weight"
    );
    let mut changed = checkpoint;
    changed.config["rms_norm_eps"] = 1e-6.into();
    changed.write(there.path());
    assert_ne!(
        model_digest(there.path()).unwrap(),
        digest,
        "another configuration"
    );
}

#[test]
fn progress_ends_at_the_models_parameters() {
    let last = std::cell::Cell::new(None);
    let options = super::LoadOptions::default();
    let model = super::super::load(&golden("tiny_llama"), &options, &|progress| {
        last.set(Some(progress))
    })
    .unwrap();
    let last = last.get().unwrap();
    assert_eq!(last.parameters_done, model.spec.parameters());
    assert_eq!(last.parameters_total, last.parameters_done);
}

#[test]
fn a_window_bounds_the_context() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
    checkpoint.config["architectures"] = serde_json::json!(["MistralForCausalLM"]);
    checkpoint.config["sliding_window"] = 100.into();
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    let spec = read_spec(folder.path()).unwrap();
    assert!(check_context(&spec, 100).is_ok());
    let message = check_context(&spec, 101).unwrap_err().to_string();
    assert!(
        message.contains("101") && message.contains("100"),
        "{message}"
    );
}
