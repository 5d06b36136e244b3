//! Loading straight onto a device.

use super::super::{LoadOptions, load_onto, model_digest};
use super::checkpoint::Checkpoint;
use super::{assert_refused, golden, load_in_4bit};
use crate::model::Projection;
use crate::ops::Cpu;

#[test]
fn a_model_on_a_device_is_the_one_in_host_memory() {
    for name in ["tiny_llama", "tiny_llama_tied", "tiny_llama_bnb4"] {
        let path = golden(name);
        let expected = load_in_4bit(&path).unwrap();
        let options = LoadOptions {
            load_in_4bit: true,
            digest: None,
        };
        let placed = load_onto(Cpu::new(), &path, &options, &|_| ()).unwrap();
        assert_eq!(placed.digest, model_digest(&path).unwrap());
        assert_eq!(placed.report.weight_bytes, expected.report.weight_bytes);
        assert!(placed.report.file_bytes > placed.report.weight_bytes / 2);
        for (index, layer) in expected.weights.layers.iter().enumerate() {
            for projection in Projection::ALL {
                let weight = &placed.model.layer(index).linear(projection).weight;
                assert_eq!(*weight, layer.linear(projection).weight, "{name} {index}");
            }
        }
        assert_eq!(*placed.model.final_norm(), expected.weights.final_norm);
    }
}

#[test]
fn a_damaged_model_is_refused_on_its_way_to_a_device() {
    let mut checkpoint = Checkpoint::read(&golden("tiny_llama"));
    checkpoint
        .tensors
        .remove("model.layers.1.mlp.up_proj.weight")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    let placed = load_onto(Cpu::new(), folder.path(), &LoadOptions::default(), &|_| ());
    let message = placed.err().expect("a tensor is missing").to_string();
    assert!(message.contains("mlp.up_proj"), "{message}");
    assert_refused(load_in_4bit(folder.path()), &["mlp.up_proj"]);
}
