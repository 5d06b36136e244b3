//! `weft bench step` measures, and says what it cannot measure.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;

use serde_json::Value;
use weft_tests::process::{Finished, Weft};
use weft_tests::repository;

fn bench(arguments: &[&str]) -> Finished {
    let cache = tempfile::tempdir().unwrap();
    let small = "bench step --micro-batch 1 --accum 2 --seq 16 --steps 2 --warmup 1";
    Weft::new(cache.path(), small.split(' '))
        .args(arguments)
        .finish()
}

/// The names in the first column of the document's last table, and those that their second column lists.
fn promised() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(repository().join("docs/bench.md")).unwrap();
    let (_, table) = text.split_once("## Names in JSON").unwrap();
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    let mut promised = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let inner: Vec<String> = names(cells[2])
            .into_iter()
            .filter(|name| name != "null")
            .collect();
        promised.extend(
            names(cells[1])
                .into_iter()
                .map(|name| (name, inner.clone())),
        );
    }
    promised
}

#[test]
fn a_measurement_has_every_name_that_the_document_promises_and_no_other() {
    let finished = bench(&[
        "--model",
        "tiny",
        "--random-weights",
        "--device",
        "cpu",
        "--json",
    ]);
    let report: Value = serde_json::from_str(&finished.succeeded().printed).unwrap();
    let promised = promised();
    for (name, inner) in &promised {
        let value = report.get(name).unwrap_or_else(|| panic!("no {name}"));
        for name in inner.iter().filter(|_| value.is_object()) {
            assert!(value.get(name).is_some(), "no {name} in {value}");
        }
    }
    let said: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(said.len(), promised.len(), "{said:?}");
    assert_eq!(report["tokens_per_step"], 32);
    let [first, uniform] =
        ["first_loss", "uniform_loss"].map(|name| report[name].as_f64().unwrap());
    assert!((first - uniform).abs() < 0.5, "{first} {uniform}");
    assert!(report["tokens_per_second"]["median"].as_f64().unwrap() > 0.0);
    assert!(
        finished.text.contains("step 1 of 3, warm-up"),
        "{}",
        finished.text
    );
}

#[test]
fn a_model_by_name_alone_is_refused_with_the_remedy() {
    bench(&["--model", "llama-3-8b", "--device", "cpu"]).ended_with(12, &["--random-weights"]);
    bench(&["--model", "llama-9", "--device", "cpu"]).ended_with(12, &["llama-3-8b", "tiny"]);
}

#[test]
fn a_gpu_that_is_not_there_is_refused_with_the_way_to_find_out() {
    let on = |device| bench(&["--model", "tiny", "--random-weights", "--device", device]);
    on("cuda:99").ended_with(13, &["--device cuda:99", "weft doctor"]);
    on("gpu").ended_with(2, &["cuda:1", "weft doctor"]);
}
