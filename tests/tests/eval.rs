//! `weft eval` over what the quickstart trains.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use weft_tests::process::{Finished, Weft};
use weft_tests::quickstart::Quickstart;

/// The quickstart with its last rows kept for evaluation.
fn trained() -> Quickstart {
    let quickstart = Quickstart::new()
        .set("datasets.0.slices=[[0,-12]]")
        .set(eval_datasets());
    assert_eq!(quickstart.run("out", 1).finish().code, Some(0));
    quickstart
}

fn eval(quickstart: &Quickstart, model: &Path, output: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["eval".into(), model.as_os_str().to_owned()];
    arguments.extend([
        "--output".into(),
        quickstart.output(output).into_os_string(),
    ]);
    arguments.extend(more.iter().map(Into::into));
    Weft::new(&quickstart.folder().join("cache"), arguments).finish()
}

fn results(quickstart: &Quickstart, output: &str) -> Value {
    let text = fs::read(quickstart.output(output).join("eval_results.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn eval_datasets() -> String {
    "eval_datasets=[{path: medical_qa.jsonl, columns: {question: instruction, answer: output}, slices: [[-12, null]]}]"
        .to_owned()
}

#[test]
fn base_and_adapter_are_compared_and_no_number_of_workers_changes_a_bit() {
    let quickstart = trained();
    let adapter = quickstart.output("out/adapter");
    let (recipe, sets) = (Quickstart::recipe(), eval_datasets());
    let recipe = recipe.to_str().unwrap();
    let by_recipe = ["--recipe", recipe, "--set", &sets, "--max-new-tokens", "12"];
    let first = eval(
        &quickstart,
        &adapter,
        "one",
        &[&by_recipe[..], &["--base-too"]].concat(),
    );
    assert_eq!(first.code, Some(0), "{}", first.text);
    for part in ["12 rows (validation)", "rouge-l", "base     adapter"] {
        assert!(first.text.contains(part), "{part} in\n{}", first.text);
    }
    let found = results(&quickstart, "one");
    let loss = |found: &Value| found["eval_loss"].as_f64().unwrap();
    assert!(loss(&found) < loss(&found["base"]), "{found}");
    let perplexity = found["eval_perplexity"].as_f64().unwrap();
    assert!((perplexity - loss(&found).exp()).abs() < 1e-9);

    let more = [&by_recipe[..], &["--workers", "3", "--threads", "2"]].concat();
    let second = eval(&quickstart, &adapter, "three", &more);
    assert_eq!(second.code, Some(0), "{}", second.text);
    let again = results(&quickstart, "three");
    assert_eq!(loss(&again).to_bits(), loss(&found).to_bits());
    let read = |output: &str, name: &str| {
        fs::read_to_string(quickstart.output(output).join(name)).unwrap()
    };
    let predictions = read("one", "generated_predictions.jsonl");
    assert_eq!(predictions, read("three", "generated_predictions.jsonl"));
    assert_eq!(predictions.lines().count(), 12);
    assert_eq!(
        read("one", "predictions_score.json"),
        read("three", "predictions_score.json")
    );
    assert!(read("one", "report.html").contains("<h2>Answers</h2>"));
}

#[test]
fn a_model_is_evaluated_on_a_file_without_a_recipe() {
    let quickstart = Quickstart::new();
    let rows = quickstart.dataset(
        "rows.jsonl",
        "{\"q\": \"What helps?\", \"output\": \"Rest.\"}\n{\"q\": \"What else?\", \"output\": \"Water.\"}\n",
    );
    let model = quickstart.model_copy();
    let more = [
        "--data",
        rows.to_str().unwrap(),
        "--column",
        "q=instruction",
    ];
    let done = eval(
        &quickstart,
        &model,
        "eval",
        &[&more[..], &["--no-answers"]].concat(),
    );
    assert_eq!(done.code, Some(0), "{}", done.text);
    let found = results(&quickstart, "eval");
    assert_eq!(found["eval_samples"], 2);
    assert!(found.get("eval_rouge-1").is_none());
    assert!(
        !quickstart
            .output("eval/generated_predictions.jsonl")
            .exists()
    );
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_a_remedy() {
    let quickstart = Quickstart::new();
    let model = quickstart.model_copy();
    let recipe = Quickstart::recipe();
    let by_recipe = ["--recipe", recipe.to_str().unwrap()];
    let refused = |model: &Path, more: &[&str]| eval(&quickstart, model, "eval", more);
    let none = refused(
        &model,
        &[&by_recipe[..], &["--split", "validation"]].concat(),
    );
    assert_eq!(none.code, Some(10), "{}", none.text);
    assert!(none.text.contains("eval_datasets"), "{}", none.text);
    let neither = refused(&model, &[]);
    assert_eq!(neither.code, Some(2), "{}", neither.text);
    let missing = refused(&quickstart.output("nothing"), &["--data", "rows.jsonl"]);
    assert_eq!(missing.code, Some(12), "{}", missing.text);
    fs::create_dir(quickstart.output("empty")).unwrap();
    fs::write(quickstart.output("empty/adapter_config.json"), "{}").unwrap();
    let adapter = refused(&quickstart.output("empty"), &by_recipe);
    assert_eq!(adapter.code, Some(12), "{}", adapter.text);
    assert!(
        adapter.text.contains("as PEFT writes it"),
        "{}",
        adapter.text
    );
}
