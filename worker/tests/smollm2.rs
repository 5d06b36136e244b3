//! The real model: SmolLM2-135M-Instruct from its GGUF file, in 4 bits, speaks English.
//!
//! Needs the file: `WEFT_TEST_SMOLLM2=…/SmolLM2-135M-Instruct.Q4_1.gguf` (`examples/smollm2/run.sh` fetches it). One
//! test, so that the process it measures does nothing else.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use weft_common::data::ChatTokenizer;
use weft_common::data::chat::Message;
use weft_worker::generate::{GenerateOptions, Generator};
use weft_worker::model::Model;
use weft_worker::model::loader::{LoadOptions, load};
use weft_worker::ops::Cpu;

const MEBIBYTE: f64 = (1 << 20) as f64;

#[test]
fn smollm2_loads_within_its_size_and_answers_in_english() {
    let Some(path) = std::env::var_os("WEFT_TEST_SMOLLM2") else {
        println!("NOT RUN: set WEFT_TEST_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf");
        return;
    };
    let path = Path::new(&path);
    let options = LoadOptions {
        load_in_4bit: true,
        digest: None,
    };
    let loaded = load(path, &options, &|_| {}).unwrap();
    let peak = loaded.report.peak_resident_bytes.unwrap() as f64 / MEBIBYTE;
    let weights = loaded.report.weight_bytes as f64 / MEBIBYTE;
    println!(
        "weights {weights:.1} MiB, peak {peak:.1} MiB, loaded in {:?}",
        loaded.report.elapsed
    );
    assert_eq!(loaded.spec.parameters(), 134_515_008);
    assert!(
        peak <= weights + 40.0,
        "the whole process peaks at {peak} MiB for {weights} MiB of weights"
    );

    let model = Model::new(Cpu::new(), loaded.spec, loaded.weights).unwrap();
    let tokenizer = ChatTokenizer::load(path, None, "auto").unwrap();
    let answer = ask(&model, &tokenizer, "What is the capital of France?");
    assert!(answer.contains("Paris"), "{answer}");
    let answer = ask(&model, &tokenizer, "Why is sleep important for health?");
    let common = ["sleep", " is ", " the ", " and "];
    assert!(common.iter().all(|word| answer.contains(word)), "{answer}");
}

fn ask(model: &Model, tokenizer: &ChatTokenizer, question: &str) -> String {
    let messages = [Message::user(question)];
    let prompt = tokenizer.encode(&tokenizer.render(&messages, true).unwrap(), false);
    let options = GenerateOptions {
        max_new_tokens: 48,
        stop_ids: tokenizer.eos_ids().to_vec(),
        ..GenerateOptions::default()
    };
    let started = Instant::now();
    let generated = Generator::new(model, None)
        .generate(&prompt, &options, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let answer = tokenizer.decode(&generated.tokens, true);
    println!(
        "{question}\n{answer}\n({} tokens in {:?}, {:?})",
        generated.tokens.len(),
        started.elapsed(),
        generated.stop
    );
    answer
}
