//! Bad input: each is found before the first step, said with place and remedy, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use weft_tests::files::listing;
use weft_tests::quickstart::Quickstart;

/// Runs, and demands the exit code, the words, and an output folder without anything in it.
#[track_caller]
fn refused(quickstart: &Quickstart, code: i32, words: &[&str]) {
    let finished = quickstart.run("out", 1).finish();
    finished.ended_with(code, words);
    let left = listing(&quickstart.output("out"));
    assert!(left.is_empty(), "a run that never began left {left:?}");
}

fn with_dataset(name: &str, text: &str) -> Quickstart {
    let quickstart = Quickstart::new();
    let path = quickstart.dataset(name, text);
    quickstart.set(format!("datasets=[{{path: '{}'}}]", path.display()))
}

fn with_model(change: impl FnOnce(&Path)) -> Quickstart {
    let quickstart = Quickstart::new();
    let model = quickstart.model_copy();
    change(&model);
    quickstart.set(format!("model.base_model={}", model.display()))
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the JSON header of a safetensors file, keeping the data.
fn edit_header(path: &Path, edit: impl FnOnce(String) -> String) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = edit(String::from_utf8(bytes[8..8 + length].to_vec()).unwrap());
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + length..]);
    fs::write(path, changed).unwrap();
}

#[test]
fn an_unknown_key_is_named_with_its_nearest_neighbour() {
    let quickstart = Quickstart::new().set("training.learning_rat=1e-4");
    refused(&quickstart, 10, &["learning_rat", "learning_rate"]);
}

#[test]
fn all_problems_of_a_recipe_are_told_at_once() {
    let quickstart = Quickstart::new()
        .set("training.learning_rate=-1")
        .set("lora.r=0");
    refused(&quickstart, 10, &["training.learning_rate", "lora.r"]);
}

#[test]
fn problems_of_different_kinds_are_told_together() {
    let quickstart = Quickstart::new().set("lora.target_modules=[nowhere_proj]");
    let path = quickstart.dataset("other.csv", "a,b\n1,2\n");
    let quickstart = quickstart.set(format!("datasets=[{{path: '{}'}}]", path.display()));
    fs::write(quickstart.output("out"), "in the way").unwrap();
    quickstart.run("out", 1).finish().ended_with(
        12,
        &["3 problems", "nowhere_proj", "other.csv", "not writable"],
    );
}

#[test]
fn a_missing_column_is_named_with_those_that_are_there() {
    let quickstart = with_dataset("other.csv", "title,body\na,b\n");
    refused(&quickstart, 11, &["other.csv", "title", "body"]);
}

#[test]
fn an_empty_dataset_is_refused() {
    let quickstart = with_dataset("empty.csv", "question,answer\n");
    refused(&quickstart, 11, &["empty.csv", "0 rows"]);
}

#[test]
fn a_dataset_where_nothing_is_supervised_is_refused() {
    let long = "why ".repeat(200);
    let quickstart = with_dataset("long.csv", &format!("prompt,completion\n{long},because\n"));
    let quickstart = quickstart.set("model.max_seq_length=16");
    refused(&quickstart, 11, &["supervised", "max_seq_length"]);
}

#[test]
fn a_truncated_safetensors_file_is_refused() {
    let quickstart = with_model(|model| {
        let file = model.join("model.safetensors");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    });
    refused(&quickstart, 12, &["model.safetensors"]);
}

#[test]
fn a_corrupt_safetensors_header_is_refused() {
    let quickstart = with_model(|model| {
        let file = model.join("model.safetensors");
        edit_header(&file, |header| header.replacen('{', "[", 1));
    });
    refused(&quickstart, 12, &["model.safetensors"]);
}

#[test]
fn an_unsupported_tensor_type_is_named() {
    let quickstart = with_model(|model| {
        let file = model.join("model.safetensors");
        edit_header(&file, |header| {
            let changed = header
                .replace("\"BF16\"", "\"I16\"")
                .replace("\"F16\"", "\"I16\"");
            assert_ne!(
                changed, header,
                "the quickstart's model is stored in 16 bits"
            );
            changed
        });
    });
    refused(&quickstart, 12, &["I16"]);
}

#[test]
fn truncated_and_corrupt_gguf_files_are_refused() {
    let mut truncated = b"GGUF".to_vec();
    truncated.extend(3u32.to_le_bytes());
    truncated.extend(272u64.to_le_bytes());
    for (name, bytes) in [
        ("truncated.gguf", truncated.as_slice()),
        ("corrupt.gguf", b"no model at all"),
    ] {
        let quickstart = Quickstart::new();
        let path = quickstart.folder().join(name);
        fs::write(&path, bytes).unwrap();
        let quickstart = quickstart.set(format!("model.base_model={}", path.display()));
        refused(&quickstart, 12, &[name]);
    }
}

#[test]
fn an_unsupported_architecture_is_named() {
    let quickstart = with_model(|model| {
        edit_json(&model.join("config.json"), |config| {
            config["model_type"] = "mamba".into();
            config["architectures"] = serde_json::json!(["MambaForCausalLM"]);
        });
    });
    refused(&quickstart, 12, &["MambaForCausalLM", "LlamaForCausalLM"]);
}

#[test]
fn a_model_without_a_tokenizer_is_refused() {
    let quickstart = with_model(|model| fs::remove_file(model.join("tokenizer.json")).unwrap());
    refused(&quickstart, 11, &["tokenizer"]);
}

#[test]
fn a_tokenizer_without_a_token_of_the_template_is_refused() {
    let quickstart = Quickstart::new().set("model.chat_template=llama-3");
    refused(&quickstart, 11, &["<|start_header_id|>"]);
}

#[test]
fn a_target_module_that_matches_nothing_is_named_with_those_that_exist() {
    let quickstart = Quickstart::new().set("lora.target_modules=[q_proj, nowhere_proj]");
    refused(&quickstart, 12, &["nowhere_proj", "gate_proj"]);
}

#[test]
fn a_sequence_length_over_the_context_is_refused_with_both_numbers() {
    let quickstart = Quickstart::new().set("model.max_seq_length=100000");
    refused(&quickstart, 12, &["100000", "context"]);
}

#[test]
fn more_workers_than_the_recipe_allows_are_refused() {
    let quickstart = Quickstart::new();
    quickstart
        .run("out", 1000)
        .finish()
        .ended_with(10, &["1000", "resources.workers.max"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let quickstart = Quickstart::new();
    let coordinator = quickstart
        .weft("coordinator")
        .args(["--listen", &address, "--output"])
        .args([quickstart.output("out")])
        .finish();
    coordinator.ended_with(13, &[&address, "in use"]);
    assert!(listing(&quickstart.output("out")).is_empty());
}

#[test]
fn an_output_folder_that_even_root_cannot_write_is_refused() {
    let quickstart = Quickstart::new();
    fs::write(quickstart.output("file"), "").unwrap();
    for output in [quickstart.output("file/out"), "/proc/weft-out".into()] {
        let run = quickstart
            .weft("run")
            .args(["--output"])
            .args([&output])
            .finish();
        run.ended_with(13, &["not writable", "--output"]);
        assert!(!output.exists());
    }
}

#[test]
fn a_coordinator_that_is_not_there_is_named() {
    let quickstart = Quickstart::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let cache = quickstart.folder().join("cache");
    let worker = weft_tests::process::Weft::new(
        &cache,
        ["worker", "--coordinator", &url, "--connect-within", "1"],
    );
    worker.finish().ended_with(13, &[&url]);
}
