//! `weft generate`: prompts of every kind, and what it says of those that it cannot use.

use std::fs;
use std::path::Path;

use serde_json::Value;
use weft_tests::process::{Finished, Weft};
use weft_tests::repository;

fn generate(arguments: &[&str]) -> Finished {
    let cache = tempfile::tempdir().unwrap();
    let model = repository().join("examples/quickstart/model");
    Weft::new(
        cache.path(),
        ["generate", model.to_str().unwrap(), "--device", "cpu"],
    )
    .args(arguments)
    .finish()
}

fn printed(arguments: &[&str]) -> String {
    generate(arguments).succeeded().printed.clone()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}

const PROMPT: [&str; 4] = ["--prompt", "What is anaemia?", "--max-new-tokens", "12"];

#[test]
fn an_answer_streams_and_is_the_one_that_json_tells() {
    let streamed = printed(&PROMPT);
    let told = json(&[&PROMPT[..], &["--json"]].concat());
    assert_eq!(told["text"].as_str(), Some(streamed.trim_end_matches('\n')));
    assert_eq!(told["completion_tokens"], 12);
    assert_eq!(told["finish_reason"], "length");
    assert!(told["tokens_per_second"].as_f64() > Some(0.0));
}

#[test]
fn a_stop_string_ends_an_answer_before_it_comes() {
    let all = printed(&PROMPT);
    let second = all.split_whitespace().nth(1).unwrap();
    let stopped = json(&[&PROMPT[..], &["--json", "--stop", second]].concat());
    assert_eq!(stopped["finish_reason"], "stop");
    let text = stopped["text"].as_str().unwrap();
    assert!(!text.contains(second) && all.starts_with(text), "{text}");
}

#[test]
fn sampling_repeats_with_its_seed_and_a_temperature_of_0_is_greedy() {
    let sampled = |seed| {
        let sampling = ["--temperature", "1.5", "--min-p", "0.05", "--seed", seed];
        printed(&[&PROMPT[..], &sampling].concat())
    };
    assert_eq!(sampled("1"), sampled("1"));
    assert_ne!(sampled("1"), sampled("2"));
    let greedy = printed(&[&PROMPT[..], &["--temperature", "0"]].concat());
    assert_eq!(greedy, printed(&PROMPT));
}

#[test]
fn a_file_of_prompts_is_answered_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (texts, lines, output) = (
        path("prompts.txt"),
        path("prompts.jsonl"),
        path("answers.jsonl"),
    );
    fs::write(&texts, "What is anaemia?\n\nWhat is iron?\n").unwrap();
    let conversation = r#"{"messages": [{"role": "user", "content": "What is iron?"}]}"#;
    fs::write(
        &lines,
        format!("{{\"prompt\": \"What is anaemia?\"}}\n{conversation}\n"),
    )
    .unwrap();
    let answers = |text: &str| -> Vec<Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let of_texts = answers(&printed(&["--prompts", &texts, "--max-new-tokens", "12"]));
    let to_file = [
        "--prompts",
        &lines,
        "--output",
        &output,
        "--max-new-tokens",
        "12",
    ];
    assert_eq!(printed(&to_file), "");
    let of_lines = answers(&fs::read_to_string(&output).unwrap());
    assert_eq!((of_texts.len(), of_lines.len()), (2, 2));
    for (text, line) in of_texts.iter().zip(&of_lines) {
        assert_eq!(
            (&text["text"], &text["index"]),
            (&line["text"], &line["index"])
        );
    }
    assert_eq!(of_texts[0]["prompt"], "What is anaemia?");
    assert_eq!(of_lines[1]["messages"][0]["content"], "What is iron?");
    assert_eq!(
        of_texts[0]["text"].as_str(),
        Some(printed(&PROMPT).trim_end_matches('\n'))
    );
}

fn refused(code: i32, arguments: &[&str], parts: &[&str]) {
    let finished = generate(arguments);
    assert_eq!(finished.code, Some(code), "{}", finished.text);
    for part in parts {
        assert!(finished.text.contains(part), "no {part}: {}", finished.text);
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let long = "iron ".repeat(2000);
    refused(
        11,
        &["--prompt", &long],
        &["the prompt has 20", "context is 512"],
    );
    refused(11, &["--prompt", "a", "--top-p", "1.5"], &["top_p is 1.5"]);
    refused(11, &["--raw"], &["--prompt"]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let output = folder.path().join("answers.jsonl");
    let lines = path("bad.jsonl", "{\"prompt\": \"a\"}\n{\"question\": \"b\"}\n");
    let to_file = ["--prompts", &lines, "--output", output.to_str().unwrap()];
    refused(11, &to_file, &["bad.jsonl: line 2", "messages"]);
    let lines = path("long.txt", &format!("short\n{long}\n"));
    refused(
        11,
        &["--prompts", &lines],
        &["long.txt: line 2", "context is 512"],
    );
    refused(11, &["--prompts", &path("empty.txt", "\n")], &["no prompt"]);
    assert!(!output.exists());
}

#[test]
fn an_adapter_that_does_not_fit_and_one_whose_base_is_gone_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    let config = |base: &Path| {
        let text = format!(
            r#"{{"peft_type": "LORA", "base_model_name_or_path": "{}", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}}"#,
            base.display()
        );
        fs::write(adapter.join("adapter_config.json"), text).unwrap();
    };
    let cache = tempfile::tempdir().unwrap();
    let run = || {
        let arguments = [
            "generate",
            adapter.to_str().unwrap(),
            "--device",
            "cpu",
            "--prompt",
            "a",
        ];
        Weft::new(cache.path(), arguments).finish()
    };
    config(&folder.path().join("gone"));
    let gone = run();
    assert_eq!(gone.code, Some(12), "{}", gone.text);
    assert!(
        gone.text.contains("gone") && gone.text.contains("--adapter"),
        "{}",
        gone.text
    );
    config(&repository().join("examples/quickstart/model"));
    fs::write(adapter.join("adapter_model.safetensors"), "nothing").unwrap();
    let damaged = run();
    assert_eq!(damaged.code, Some(12), "{}", damaged.text);
    assert!(
        damaged.text.contains("adapter_model.safetensors"),
        "{}",
        damaged.text
    );
}

/// An adapter on the queries that changes nothing, with what weft's training leaves beside it.
#[test]
fn an_adapter_of_another_base_is_refused_unless_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = repository().join("examples/quickstart/model");
    let text = format!(
        r#"{{"base_model_name_or_path": "{}", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}}"#,
        model.display()
    );
    fs::write(path("adapter_config.json"), text).unwrap();
    let config = fs::read(model.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let (hidden, layers) = (size("hidden_size"), size("num_hidden_layers"));
    let outputs = size("num_attention_heads") * size("head_dim");
    let zeros = vec![0_u8; 4 * 2 * hidden.max(outputs)];
    let view = |shape: [usize; 2]| {
        let bytes = &zeros[..4 * shape[0] * shape[1]];
        let dtype = safetensors::Dtype::F32;
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes).unwrap()
    };
    let named = |layer: usize, ab: &str, shape| {
        let module = format!("base_model.model.model.layers.{layer}.self_attn.q_proj");
        (format!("{module}.lora_{ab}.weight"), view(shape))
    };
    let tensors = (0..layers).flat_map(|layer| {
        [
            named(layer, "A", [2, hidden]),
            named(layer, "B", [outputs, 2]),
        ]
    });
    let file = safetensors::serialize(tensors, None).unwrap();
    fs::write(path("adapter_model.safetensors"), file).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let arguments = [
            "generate",
            folder.path().to_str().unwrap(),
            "--device",
            "cpu",
            "--prompt",
            "a",
        ];
        Weft::new(cache.path(), arguments)
            .args(["--max-new-tokens", "4"])
            .args(more)
            .finish()
    };
    assert_eq!(run(&[]).code, Some(0));
    let other = "0".repeat(64);
    let record = format!(
        r#"{{"inputs": {{"base_model": "{other}"}}, "recipe": {{"model": {{"load_in_4bit": false}}}}}}"#
    );
    fs::write(path("training.json"), record).unwrap();
    let refused = run(&[]);
    assert_eq!(refused.code, Some(12), "{}", refused.text);
    let told = refused.text.contains(&other) && refused.text.contains("--allow-other-base");
    assert!(told, "{}", refused.text);
    assert_eq!(run(&["--allow-other-base"]).code, Some(0));
}
