//! Folders that bitsandbytes quantized.

use safetensors::tensor::Dtype;

use super::checkpoint::{Checkpoint, Tensor, read_tensors};
use super::{assert_refused, golden, load, load_in_4bit, values};
use crate::model::{FrozenLinear, Projection};
use crate::quant::{Absmax, Nf4Matrix};

const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";

fn nf4(linear: &FrozenLinear) -> &Nf4Matrix {
    match linear {
        FrozenLinear::Nf4(matrix) => matrix,
        FrozenLinear::Dense(_) | FrozenLinear::Blocks(_) => panic!("not NF4"),
    }
}

/// Rewrites keys of a tensor's quantization state.
fn change_state(
    checkpoint: &mut Checkpoint,
    tensor: &str,
    change: impl Fn(&mut serde_json::Map<String, serde_json::Value>),
) {
    let name = format!("{tensor}.quant_state.bitsandbytes__nf4");
    let mut state = serde_json::from_slice(&checkpoint.tensor(&name).bytes).unwrap();
    change(&mut state);
    let bytes = serde_json::to_vec(&state).unwrap();
    checkpoint.tensors.insert(name, Tensor::u8(bytes));
}

/// Writes the checkpoint and returns the first query matrix as it loads.
fn reload(checkpoint: &Checkpoint) -> FrozenLinear {
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    let model = load_in_4bit(folder.path()).unwrap();
    model.weights.layers[0].q.weight.clone()
}

#[test]
fn it_loads_to_what_its_source_is_quantized_to_here() {
    let stored = load_in_4bit(&golden("tiny_llama_bnb4")).unwrap();
    let own = load_in_4bit(&golden("tiny_llama")).unwrap();
    assert_eq!(stored.spec, own.spec);
    for (stored, own) in stored.weights.layers.iter().zip(&own.weights.layers) {
        for projection in Projection::ALL {
            let (stored, own) = (
                &stored.linear(projection).weight,
                &own.linear(projection).weight,
            );
            assert_eq!(nf4(stored).packed(), nf4(own).packed(), "{projection:?}");
            assert_eq!(values(stored), values(own), "{projection:?}");
        }
    }
    assert_eq!(stored.weights.embed, own.weights.embed);
}

#[test]
fn it_dequantizes_to_what_bitsandbytes_does() {
    let model = load(&golden("tiny_llama_bnb4")).unwrap();
    let expected = read_tensors(&golden("tiny_llama_bnb4_dequantized.safetensors"));
    for (index, layer) in model.weights.layers.iter().enumerate() {
        for projection in Projection::ALL {
            let name = format!("model.layers.{index}.{}.weight", projection.module());
            assert_eq!(
                values(&layer.linear(projection).weight),
                expected[&name].values(),
                "{name}"
            );
        }
    }
}

#[test]
fn bytes_stored_under_another_dtype_are_the_same_bytes() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama_bnb4"));
    let expected = reload(&checkpoint);
    let weight = checkpoint.tensor(QUERY);
    weight.dtype = Dtype::BF16;
    weight.shape = vec![weight.bytes.len() / 2, 1];
    assert_eq!(reload(&checkpoint), expected);
}

/// Replaces the double quantization of the first query matrix by plain magnitudes of `per_block` blocks each.
fn with_plain_magnitudes(checkpoint: &mut Checkpoint, magnitudes: &[f32], per_block: usize) {
    for part in ["nested_absmax", "nested_quant_map"] {
        checkpoint
            .tensors
            .remove(&format!("{QUERY}.{part}"))
            .unwrap();
    }
    let absmax = Tensor::f32(&[magnitudes.len()], magnitudes);
    checkpoint.tensors.insert(format!("{QUERY}.absmax"), absmax);
    change_state(checkpoint, QUERY, |state| {
        state.retain(|key, _| !key.starts_with("nested"));
        state["blocksize"] = (64 * per_block).into();
    });
}

#[test]
fn plain_magnitudes_are_read_too() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama_bnb4"));
    let double = reload(&checkpoint);
    let magnitudes: Vec<f32> = (0..64)
        .map(|block| nf4(&double).absmax().get(block))
        .collect();
    with_plain_magnitudes(&mut checkpoint, &magnitudes, 1);
    let plain = reload(&checkpoint);
    assert_eq!(nf4(&plain).absmax(), &Absmax::Single(magnitudes));
    assert_eq!(values(&plain), values(&double));
}

#[test]
fn larger_blocks_are_several_of_the_same_magnitude() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama_bnb4"));
    let magnitudes: Vec<f32> = (0..16).map(|block| 1.0 + block as f32).collect();
    with_plain_magnitudes(&mut checkpoint, &magnitudes, 4);
    let expected: Vec<f32> = (0..64).map(|block| 1.0 + (block / 4) as f32).collect();
    assert_eq!(
        nf4(&reload(&checkpoint)).absmax(),
        &Absmax::Single(expected)
    );
}

#[test]
fn linears_left_in_16_bits_stay_so() {
    let source = Checkpoint::read(&golden("tiny_llama"));
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama_bnb4"));
    checkpoint
        .tensors
        .retain(|name, _| !name.starts_with(QUERY));
    checkpoint
        .tensors
        .insert(QUERY.to_owned(), source.tensors[QUERY].clone());
    let query = reload(&checkpoint);
    assert!(matches!(query, FrozenLinear::Dense(_)));
    assert_eq!(values(&query), source.tensors[QUERY].values());
}

#[test]
fn what_cannot_be_read_is_named() {
    let original = Checkpoint::read(&golden("tiny_llama_bnb4"));
    let refused = |change: &dyn Fn(&mut Checkpoint), parts: &[&str]| {
        let mut checkpoint = original.clone();
        change(&mut checkpoint);
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        assert_refused(load_in_4bit(folder.path()), parts);
    };
    let to_fp4 = |checkpoint: &mut Checkpoint| {
        change_state(checkpoint, QUERY, |state| {
            state["quant_type"] = "fp4".into()
        });
        let state = checkpoint
            .tensors
            .remove(&format!("{QUERY}.quant_state.bitsandbytes__nf4"))
            .unwrap();
        checkpoint
            .tensors
            .insert(format!("{QUERY}.quant_state.bitsandbytes__fp4"), state);
    };
    refused(&to_fp4, &[QUERY, "fp4", "nf4"]);
    let to_small_blocks =
        |c: &mut Checkpoint| change_state(c, QUERY, |state| state["blocksize"] = 32.into());
    refused(&to_small_blocks, &[QUERY, "blocksize 32", "64"]);
    let to_other_shape = |c: &mut Checkpoint| {
        change_state(c, QUERY, |state| {
            state["shape"] = serde_json::json!([32, 128])
        })
    };
    refused(&to_other_shape, &[QUERY, "[32, 128]", "[64, 64]"]);
    let without_absmax = |c: &mut Checkpoint| drop(c.tensors.remove(&format!("{QUERY}.absmax")));
    refused(&without_absmax, &["no tensor", &format!("{QUERY}.absmax")]);
    let with_short_bytes =
        |c: &mut Checkpoint| drop(c.tensors.insert(QUERY.to_owned(), Tensor::u8(vec![0; 100])));
    refused(&with_short_bytes, &[QUERY, "2048", "100"]);
    let with_other_table =
        |c: &mut Checkpoint| c.tensor(&format!("{QUERY}.quant_map")).bytes[0] ^= 1;
    refused(&with_other_table, &[QUERY, "quant_map"]);
}
