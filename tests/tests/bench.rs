//! `weft bench` measures, and says what it cannot measure.

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

fn weft(command: &str) -> Finished {
    let cache = tempfile::tempdir().unwrap();
    Weft::new(cache.path(), command.split_whitespace()).finish()
}

fn objects(finished: &Finished) -> Vec<Value> {
    let lines = finished.succeeded().printed.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn three_processes_measure_their_all_reduce_and_what_was_measured_can_be_scaled() {
    let measured = weft("bench reduce --workers 3 --parameters 300000 --repeats 3 --json");
    let report: Value = serde_json::from_str(&measured.succeeded().printed).unwrap();
    assert_eq!(report["world"], 3);
    assert_eq!(report["large"]["elements"], 300_000);
    for part in ["form_seconds", "form_again_seconds", "abort_seconds"] {
        assert!(report[part].as_f64().unwrap() < 10.0, "{report}");
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("link.json");
    let link = serde_json::json!({ "latency_seconds": 1e-5, "bytes_per_second": 1e9 });
    let mut known = report;
    known["link"] = link;
    fs::write(&file, known.to_string()).unwrap();
    let scale = format!(
        "bench scale --measured {} --workers 1,4 --parameters 1000000 --slots 8 --slot-seconds 0.5 --json",
        file.display()
    );
    let costs = objects(&weft(&scale));
    let seconds = |at: usize, part: &str| costs[at][part].as_f64().unwrap();
    assert!((seconds(1, "compute_seconds") - 1.0).abs() < 1e-9);
    // Six hops of a quarter of 8 MB each, at 1 GB/s.
    assert!((seconds(1, "reduce_seconds") - 6.0 * (2e6 / 1e9 + 1e-5)).abs() < 1e-9);
    assert!((seconds(0, "efficiency") - 1.0).abs() < 1e-9);
}

#[test]
fn members_on_machines_of_their_own_find_each_other_by_address() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, other) = (free(), free());
    let members = format!(
        "{},{}",
        one.local_addr().unwrap(),
        other.local_addr().unwrap()
    );
    drop((one, other));
    let cache = tempfile::tempdir().unwrap();
    let start = |rank: &str| {
        let common = "bench reduce --parameters 1000 --repeats 1";
        let arguments = ["--members", &members, "--rank", rank];
        Weft::new(cache.path(), common.split(' ')).args(arguments)
    };
    let second = start("1").start();
    let first = start("0").finish();
    second.finish().ended_with(0, &["the first member reports"]);
    let printed = &first.succeeded().printed;
    assert!(printed.contains("members    2"), "{printed}");
    start("7")
        .finish()
        .ended_with(13, &["--rank 7", "2 --members"]);
    weft("bench reduce --members worker-0:7200 --rank 0").ended_with(2, &["10.0.0.1:7200"]);
}

#[test]
fn a_measurement_that_is_none_is_refused_with_what_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    fs::write(&file, "fast").unwrap();
    let scale = |path: &str| weft(&format!("bench scale --measured {path}"));
    for path in [file.to_str().unwrap(), "/nowhere/link.json"] {
        scale(path).ended_with(13, &[path, "weft bench reduce --json"]);
    }
    weft("bench scale --slots 4 --slots-per-worker 2").ended_with(2, &["--slots"]);
    weft("bench reduce --workers 1").ended_with(2, &["2..=1024"]);
}

/// Each block of the document that begins with a command holds what that command prints.
#[test]
fn the_curves_in_the_document_are_those_that_the_command_computes() {
    let text = fs::read_to_string(repository().join("docs/scaling.md")).unwrap();
    let blocks = text.split("```text\n$ weft ").skip(1);
    let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 4, "{}", blocks.len());
    for block in blocks {
        let (command, expected) = block.split_once('\n').unwrap();
        let finished = weft(command);
        assert_eq!(finished.succeeded().printed.trim_end(), expected.trim_end());
    }
}
