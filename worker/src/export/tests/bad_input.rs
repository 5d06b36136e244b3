use serde_json::{Value, json};

use super::*;
use crate::export::{MergeBase, TRAINING_FILE};

fn refused(request: &Request, words: &[&str]) {
    let error = export(request).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    assert!(!request.output.exists(), "{error}");
    let left = names(request.output.parent().unwrap());
    assert!(
        left.iter().all(|name| !name.contains("partial")),
        "{left:?}"
    );
}

fn edit_config(fixture: &Fixture, key: &str, value: Value) {
    let path = fixture.adapter_path().join(ADAPTER_CONFIG_FILE);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn what_weft_does_not_merge_is_refused_by_its_key() {
    for (key, value) in [
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 8})),
        ("bias", json!("all")),
        ("peft_type", json!("IA3")),
    ] {
        let fixture = Fixture::new();
        edit_config(&fixture, key, value);
        let word = if key == "peft_type" { "IA3" } else { key };
        refused(&fixture.request(Format::Gguf), &[word, "adapter"]);
    }
}

#[test]
fn a_rank_that_does_not_fit_is_told_with_both_shapes() {
    let fixture = Fixture::new();
    edit_config(&fixture, "r", json!(8));
    refused(&fixture.request(Format::Adapter), &["[4, 128]", "rank 8"]);
}

#[test]
fn a_base_model_of_other_dimensions_is_told_with_the_linear() {
    let fixture = Fixture::new();
    let request = Request {
        base: Some(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/tiny_llama"),
        ),
        ..fixture.request(Format::Merged16Bit)
    };
    refused(
        &request,
        &[
            "model.layers.0.self_attn.q_proj",
            "256x128",
            "another model",
        ],
    );
}

#[test]
fn a_base_model_that_is_not_there_is_told_with_the_option() {
    let fixture = Fixture::new();
    edit_config(&fixture, "base_model_name_or_path", json!("/nowhere/llama"));
    refused(
        &fixture.request(Format::Gguf),
        &["/nowhere/llama", "--base"],
    );
}

#[test]
fn a_base_model_with_another_digest_is_refused_unless_told() {
    let fixture = Fixture::new();
    let digest = "0".repeat(64);
    let inputs = json!({"recipe": digest, "base_model": digest, "dataset": digest, "tokenizer": digest, "template": digest});
    let record =
        json!({"weft_version": "0", "steps": 6, "seed": 1, "inputs": inputs, "recipe": {}});
    fs::write(
        fixture.adapter_path().join(TRAINING_FILE),
        record.to_string(),
    )
    .unwrap();
    let request = fixture.request(Format::Merged16Bit);
    refused(&request, &["digest", "0000", "--allow-other-base"]);
    let allowed = Request {
        allow_other_base: true,
        ..request
    };
    assert!(export(&allowed).unwrap().base_digest.is_some());
    let card = fs::read_to_string(allowed.output.join("README.md")).unwrap();
    assert!(
        card.contains("6 steps") && card.contains("| data | `0000"),
        "{card}"
    );
}

#[test]
fn numbers_that_are_not_finite_are_told_with_their_tensor() {
    let fixture = Fixture::new();
    let mut adapter = fixture.adapter.clone();
    let infinite = |adapter: &Adapter| {
        fs::write(
            fixture.adapter_path().join(ADAPTER_MODEL_FILE),
            adapter_model(adapter),
        )
        .unwrap()
    };
    adapter.values_mut()[3] = f32::NAN;
    infinite(&adapter);
    refused(&fixture.request(Format::Gguf), &["lora_A", "NaN"]);
    adapter.values_mut().fill(2e19);
    infinite(&adapter);
    refused(
        &fixture.request(Format::Gguf),
        &["model.layers.0.self_attn.q_proj.weight", "inf"],
    );
    adapter.values_mut().fill(1e4);
    infinite(&adapter);
    let f16 = Request {
        quantizations: vec![Quantization::F16],
        ..fixture.request(Format::Gguf)
    };
    refused(&f16, &["F16 cannot hold", "--quantization"]);
}

#[test]
fn a_base_model_in_4_bits_alone_has_no_16_bits_to_merge_into() {
    let fixture = Fixture::new();
    let four = fixture.request(Format::Merged4Bit);
    export(&four).unwrap();
    let request = Request {
        base: Some(four.output),
        merge_base: Some(MergeBase::Stored),
        ..fixture.request(Format::Gguf)
    };
    refused(&request, &["q_proj.weight", "--merge-base nf4"]);
}

#[test]
fn an_export_that_is_stopped_leaves_nothing() {
    let fixture = Fixture::new();
    let request = fixture.request(Format::Gguf);
    let stop = AtomicBool::new(false);
    let control = Control {
        stop: &stop,
        progress: &|progress| {
            if progress.done == 5 {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        },
    };
    assert!(matches!(
        run(&request, control),
        Err(ExportError::Interrupted)
    ));
    assert_eq!(names(fixture.folder.path()), ["adapter"]);
}
