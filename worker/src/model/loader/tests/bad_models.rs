//! Whole files with a model in them that weft cannot train.

use safetensors::tensor::Dtype;
use serde_json::json;

use super::super::inspect;
use super::checkpoint::Checkpoint;
use super::{assert_refused, golden, load};

/// Loads the golden model after a change, which must be refused.
#[track_caller]
fn refused(change: impl Fn(&mut Checkpoint), parts: &[&str]) {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
    change(&mut checkpoint);
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    assert_refused(load(folder.path()), parts);
}

#[test]
fn inspection_finds_what_loading_would() {
    for name in ["tiny_llama", "tiny_llama_tied", "tiny_llama_bnb4"] {
        let spec = load(&golden(name)).unwrap().spec;
        assert_eq!(inspect(&golden(name)).unwrap(), spec);
    }
    for tensor in [
        "model.embed_tokens.weight",
        "model.layers.1.input_layernorm.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ] {
        let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
        checkpoint.tensors.remove(tensor).unwrap();
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        let message = inspect(folder.path()).unwrap_err().to_string();
        assert_eq!(message, load(folder.path()).unwrap_err().to_string());
        assert!(message.contains(tensor), "{message}");
    }
}

#[test]
fn other_architectures_are_named_with_the_supported_ones() {
    let parts = [
        "config.json",
        "FalconForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
    ];
    refused(
        |c| c.config = json!({"architectures": ["FalconForCausalLM"]}),
        &parts,
    );
    refused(
        |c| c.config = json!({"model_type": "bert"}),
        &["bert", "LlamaForCausalLM"],
    );
    refused(|c| c.config = json!({}), &["architectures", "model_type"]);
}

#[test]
fn configuration_that_makes_no_sense_is_named() {
    refused(
        |c| drop(c.config.as_object_mut().unwrap().remove("hidden_size")),
        &["config.json", "hidden_size"],
    );
    refused(
        |c| c.config["hidden_act"] = json!("relu"),
        &["hidden_act", "relu", "silu"],
    );
    refused(
        |c| c.config["num_key_value_heads"] = json!(3),
        &["4 attention heads", "3 key/value heads"],
    );
    refused(
        |c| c.config["num_hidden_layers"] = json!(0),
        &["layers is 0"],
    );
    refused(
        |c| c.config["rope_parameters"] = json!({"rope_type": "yarn"}),
        &["yarn", "llama3"],
    );
    refused(
        |c| c.config["rope_parameters"] = json!({"rope_type": "llama3", "factor": 8}),
        &["low_freq_factor"],
    );
    refused(
        |c| c.config["quantization_config"] = json!({"quant_method": "gptq"}),
        &["gptq", "16-bit"],
    );
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_named() {
    const UP: &str = "model.layers.1.mlp.up_proj.weight";
    refused(|c| drop(c.tensors.remove(UP)), &["no tensor", UP]);
    refused(
        |c| c.config["intermediate_size"] = json!(128),
        &["gate_proj", "[96, 64]", "[128, 64]"],
    );
    refused(
        |c| c.config["num_hidden_layers"] = json!(1),
        &["more layers than the 1"],
    );
    refused(
        |c| drop(c.tensors.remove("lm_head.weight")),
        &["lm_head.weight"],
    );
    let to_f8 = |c: &mut Checkpoint| {
        let up = c.tensor(UP);
        up.dtype = Dtype::F8_E4M3;
        up.bytes.truncate(96 * 64);
    };
    refused(to_f8, &[UP, "F8_E4M3", "BF16"]);
}

#[test]
fn a_weight_that_is_not_a_number_is_refused() {
    const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
    const NORM: &str = "model.norm.weight";
    for name in [GATE, NORM] {
        let to_nan = |c: &mut Checkpoint| {
            let bytes = &mut c.tensor(name).bytes;
            let middle = bytes.len() / 4 * 2;
            bytes[middle..middle + 2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
        };
        refused(to_nan, &["model.safetensors is damaged", name, "NaN"]);
    }
}
