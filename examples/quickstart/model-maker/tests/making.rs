//! The same seed makes the same files, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use weft_quickstart_model::config::{ModelConfig, Schedule};
use weft_quickstart_model::{Plan, make};

fn tiny_plan(seed: u64) -> Plan {
    Plan {
        seed,
        model: ModelConfig {
            vocab_size: 320,
            hidden_size: 64,
            intermediate_size: 64,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 32,
            ..ModelConfig::default()
        },
        schedule: Schedule {
            steps: 3,
            rows_per_step: 2,
            tokens_per_row: 32,
            warmup_steps: 1,
            log_every: 1,
            ..Schedule::default()
        },
    }
}

fn made(seed: u64) -> BTreeMap<String, Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let out = tempfile::tempdir().unwrap();
    make(&tiny_plan(seed), &corpus, out.path(), &|_| {}).unwrap();
    let files = fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read(path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn same_seed_makes_the_same_files_and_another_seed_does_not() {
    let first = made(7);

    assert_eq!(first.len(), 6);
    assert!(first == made(7), "two runs with one seed differ");
    assert!(first["model.safetensors"] != made(8)["model.safetensors"]);
}
