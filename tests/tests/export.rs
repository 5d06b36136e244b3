//! From a training to what other programs load, with the binary alone: every format, and what stands in its way.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_common::gguf::GgufFile;
use weft_tests::disk::SmallDisk;
use weft_tests::files::listing;
use weft_tests::process::Weft;
use weft_tests::quickstart::Quickstart;
use weft_worker::model::loader::inspect;

const ALL: &str = "f32,f16,bf16,q8_0,q6_k,q5_k_m,q5_k_s,q4_k_m,q4_k_s";

/// A shortened quickstart that has run.
fn trained() -> Quickstart {
    let quickstart = Quickstart::new();
    quickstart.run("run", 1).finish().succeeded();
    quickstart
}

fn export(quickstart: &Quickstart, arguments: &[&str]) -> Weft {
    let adapter = quickstart.output("run").join("adapter");
    Weft::new(&quickstart.folder().join("cache"), ["export"])
        .args([adapter])
        .args(arguments)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Folders that an export leaves while it runs.
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let mut left = listing(folder);
    left.retain(|path| path.to_string_lossy().contains(".partial"));
    left
}

#[test]
fn every_format_comes_out_of_a_training_and_is_read_back() {
    let quickstart = trained();
    let formats = [
        "--format",
        "adapter,merged-16bit,merged-4bit,gguf,gguf-lora",
    ];
    let run = quickstart.output("run");
    let made = export(&quickstart, &formats)
        .args(["--quantization", ALL, "--json"])
        .finish();
    made.succeeded();
    let summary: Value = serde_json::from_str(&made.printed).unwrap();
    let exports = summary["exports"].as_array().unwrap();
    assert_eq!(exports.len(), 5);
    for export in exports {
        let folder = PathBuf::from(export["output"].as_str().unwrap());
        for file in export["files"].as_array().unwrap() {
            let size = fs::metadata(folder.join(file["name"].as_str().unwrap()))
                .unwrap()
                .len();
            assert_eq!(file["bytes"], size);
        }
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        for part in [
            "## Use",
            "## Training",
            "6 steps",
            "## Loss",
            "learning_rate",
        ] {
            assert!(card.contains(part), "{part} in {card}");
        }
        assert!(
            !card.contains(&*quickstart.folder().to_string_lossy()),
            "{card}"
        );
    }
    for folder in ["merged-16bit", "merged-4bit"] {
        inspect(&run.join(folder)).unwrap();
    }
    let gguf = listing(&run.join("gguf"));
    let gguf: Vec<_> = gguf
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .collect();
    assert_eq!(gguf.len(), 9);
    for path in gguf {
        inspect(path).unwrap();
    }
    let lora = GgufFile::open(&run.join("gguf-lora/run-lora-Q8_0.gguf")).unwrap();
    assert_eq!(lora.tensors().len(), 4 * 7 * 2);
    assert_eq!(unfinished(&run), Vec::<PathBuf>::new());
}

#[test]
fn what_was_trained_knows_its_base_model_and_takes_no_other() {
    let quickstart = trained();
    let record = json(&quickstart.output("run").join("adapter/training.json"));
    assert_eq!(
        (&record["steps"], &record["seed"]),
        (&Value::from(6), &Value::from(3407))
    );
    let model = quickstart.model_copy();
    let mut config = json(&model.join("config.json"));
    config["rms_norm_eps"] = 1e-6.into();
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let other = [
        "--format",
        "merged-16bit",
        "--base",
        model.to_str().unwrap(),
    ];
    let refused = export(&quickstart, &other).finish();
    refused.ended_with(
        12,
        &[
            "digest",
            record["inputs"]["base_model"].as_str().unwrap(),
            "--allow-other-base",
        ],
    );
    export(&quickstart, &other)
        .args(["--allow-other-base"])
        .finish()
        .succeeded();
}

#[test]
fn problems_are_told_with_a_way_out_and_leave_nothing() {
    let quickstart = trained();
    let run = quickstart.output("run");
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        export(&quickstart, arguments)
            .finish()
            .ended_with(code, words);
    };
    refused(
        &["--format", "gguf", "--quantization", "q3_k_m"],
        2,
        &["q4_k_m"],
    );
    refused(
        &["--format", "merged-16bit", "--quantization", "f16"],
        13,
        &["--quantization is for"],
    );
    refused(
        &["--format", "gguf,adapter", "--output", "x"],
        13,
        &["--output names one folder"],
    );
    refused(
        &["--format", "gguf", "--base", "/nowhere"],
        12,
        &["/nowhere", "--base"],
    );
    let into = run.to_string_lossy().into_owned();
    refused(
        &["--format", "gguf", "--output", &into, "--overwrite"],
        13,
        &["not an export of weft"],
    );
    let model = Quickstart::recipe().with_file_name("model");
    let whole = Weft::new(&quickstart.folder().join("cache"), ["export"]);
    whole
        .args([model])
        .args(["--format", "gguf"])
        .finish()
        .ended_with(12, &["not an adapter"]);
    export(&quickstart, &["--format", "gguf"])
        .finish()
        .succeeded();
    refused(
        &["--format", "gguf"],
        13,
        &["is there already", "--overwrite"],
    );
    export(&quickstart, &["--format", "gguf", "--overwrite"])
        .finish()
        .succeeded();
    assert_eq!(unfinished(&run), Vec::<PathBuf>::new());
}

#[test]
fn an_interrupted_export_leaves_nothing_and_a_killed_one_nothing_that_stays() {
    let quickstart = trained();
    let run = quickstart.output("run");
    let slow = |deed: &str| {
        export(&quickstart, &["--format", "gguf"])
            .env("WEFT_FAILPOINT", format!("exporting@20:{deed}"))
    };
    let mut running = slow("delay-100").start();
    running.wait_for("tensor");
    running.interrupt();
    running
        .finish()
        .ended_with(30, &["interrupted", "nothing was left"]);
    assert!(!run.join("gguf").exists());
    assert_eq!(unfinished(&run), Vec::<PathBuf>::new());

    assert_eq!(slow("kill").finish().code, None);
    assert!(!run.join("gguf").exists() && !unfinished(&run).is_empty());
    export(&quickstart, &["--format", "gguf"])
        .finish()
        .succeeded();
    assert_eq!(unfinished(&run), Vec::<PathBuf>::new());
    inspect(&run.join("gguf/run-Q4_K_M.gguf")).unwrap();
}

#[test]
fn a_disk_that_is_too_small_is_noticed_before_anything_is_written() {
    let Some(disk) = SmallDisk::mount(1024) else {
        return;
    };
    let quickstart = trained();
    let output = disk.path().join("out").to_string_lossy().into_owned();
    let full = export(
        &quickstart,
        &["--format", "merged-16bit", "--output", &output],
    )
    .finish();
    full.ended_with(13, &["bytes", "left", "--output"]);
    assert_eq!(listing(disk.path()), Vec::<PathBuf>::new());
}

/// The merge, the file and its tokenizer, against adapter and base model side by side.
#[test]
fn what_was_merged_as_trained_answers_as_the_adapter_does_beside_its_base() {
    use weft_common::data::ChatTokenizer;
    use weft_worker::model::loader::{LoadOptions, load};
    use weft_worker::model::{Model, logits};
    use weft_worker::ops::Cpu;
    use weft_worker::train::PackedBatch;

    let quickstart = trained();
    let arguments = [
        "--format",
        "gguf",
        "--quantization",
        "f32",
        "--merge-base",
        "nf4",
    ];
    export(&quickstart, &arguments).finish().succeeded();
    let file = quickstart.output("run").join("gguf/run-F32.gguf");
    let tokenizer = ChatTokenizer::load(&file, None, "auto").unwrap();
    let loaded = load(&file, &LoadOptions::default(), &|_| {}).unwrap();
    let model = Model::new(Cpu::new(), loaded.spec, loaded.weights).unwrap();
    let question = "What is anaemia?";
    let answer = Weft::new(&quickstart.folder().join("cache"), ["generate"])
        .args([quickstart.output("run").join("adapter")])
        .args(["--prompt", question, "--max-new-tokens", "24"])
        .finish();
    answer.succeeded();
    let messages = [weft_common::data::chat::Message::user(question)];
    let mut ids = tokenizer.encode(&tokenizer.render(&messages, true).unwrap(), false);
    let start = ids.len();
    while ids.len() < start + 24 {
        let last = [ids.len() as u32 - 1];
        let scores = logits(&model, None, &PackedBatch::from_tokens(&ids), &last);
        let best = (0..scores.len())
            .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
            .unwrap();
        if tokenizer.eos_ids().contains(&(best as u32)) {
            break;
        }
        ids.push(best as u32);
    }
    let merged = tokenizer.decode(&ids[start..], true);
    assert_eq!(answer.printed.trim_end(), merged.trim_end());
}
