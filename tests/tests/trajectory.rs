//! The recipe alone decides the result: any number of workers, any stop and resume, embedded or separate processes.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;

use serde_json::Value;
use weft_tests::process::{Weft, is_alive};
use weft_tests::quickstart::Quickstart;

#[test]
fn one_two_and_three_workers_leave_the_same_adapter() {
    let quickstart = Quickstart::new();
    for workers in 1..=3 {
        quickstart
            .run(&format!("w{workers}"), workers)
            .finish()
            .succeeded();
    }
    let one = quickstart.adapter("w1");
    assert_eq!(one, quickstart.adapter("w2"));
    assert_eq!(one, quickstart.adapter("w3"));
}

#[test]
fn a_run_stopped_by_ctrl_c_and_resumed_with_other_workers_ends_in_the_same_bits() {
    let quickstart = Quickstart::new();
    quickstart.run("whole", 1).finish().succeeded();

    let mut stopped = quickstart.run("halves", 2).start();
    stopped.wait_for("step 3/6");
    stopped.interrupt();
    stopped.finish().ended_with(30, &["--resume"]);
    assert!(!quickstart.output("halves").join("adapter").exists());
    let resumed = quickstart.run("halves", 3).args(["--resume"]).finish();

    resumed.ended_with(0, &["Resuming after step"]);
    assert_eq!(quickstart.adapter("whole"), quickstart.adapter("halves"));
    let steps = logged_steps(&quickstart, "halves");
    assert_eq!(steps, [1, 2, 3, 4, 5, 6], "every step is logged once");
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_prints() {
    let quickstart = Quickstart::new();
    quickstart.run("out", 1).unread().finish().succeeded();
    assert_eq!(logged_steps(&quickstart, "out"), [1, 2, 3, 4, 5, 6]);
}

fn logged_steps(quickstart: &Quickstart, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(quickstart.output(name).join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn separate_coordinator_and_workers_leave_the_same_adapter() {
    let quickstart = Quickstart::new();
    quickstart.run("embedded", 2).finish().succeeded();

    let mut coordinator = quickstart
        .weft("coordinator")
        .args(["--listen", "127.0.0.1:0", "--workers", "2", "--output"])
        .args([quickstart.output("separate")])
        .start();
    let line = coordinator.wait_for("listening on http://");
    let url = &line[line.find("http://").unwrap()..];
    let cache = quickstart.folder().join("cache");
    let workers: Vec<_> = (0..2)
        .map(|_| Weft::new(&cache, ["worker", "--coordinator", url, "--threads", "1"]).start())
        .collect();

    coordinator.finish().succeeded();
    for worker in workers {
        worker.finish().succeeded();
    }
    assert_eq!(
        quickstart.adapter("embedded"),
        quickstart.adapter("separate")
    );
}

#[test]
fn a_killed_worker_is_replaced_and_changes_nothing() {
    let quickstart = Quickstart::new();
    quickstart.run("whole", 2).finish().succeeded();

    let mut run = quickstart.run("killed", 2).start();
    run.wait_for("step 3/6");
    let workers = run.children();
    assert_eq!(workers.len(), 2);
    weft_tests::process::send(workers[0], "KILL");
    run.wait_for("another one is started");
    run.finish().succeeded();
    assert_eq!(quickstart.adapter("whole"), quickstart.adapter("killed"));
}

#[test]
fn workers_end_when_their_run_is_killed() {
    let quickstart = Quickstart::new()
        .set("training.max_steps=100000")
        .set("training.save_total_limit=1");
    let mut run = quickstart.run("orphaned", 2).start();
    run.wait_for("step 2/");
    let workers = run.children();
    assert_eq!(workers.len(), 2);

    run.kill();
    let _ = run.finish();

    let end = std::time::Instant::now() + weft_tests::process::DEADLINE;
    while workers.iter().any(|pid| is_alive(*pid)) {
        assert!(std::time::Instant::now() < end, "a worker outlived its run");
        std::thread::yield_now();
    }
}

#[test]
fn an_output_folder_is_complete_and_used_only_once() {
    let quickstart = Quickstart::new();
    quickstart.run("out", 1).finish().succeeded();
    let out = quickstart.output("out");

    for file in [
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/tokenizer.json",
        "adapter/tokenizer_config.json",
        "trainer_state.json",
        "trainer_stats.json",
        "report.html",
        "metrics.jsonl",
        "recipe.json",
        "logs/worker-1.log",
    ] {
        assert!(out.join(file).is_file(), "{file} is missing");
    }
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    for part in [
        "Memory over time (GiB)",
        "% of max memory",
        "step 1<",
        ">6</text>",
    ] {
        assert!(report.contains(part), "{part} is missing in {report}");
    }
    let state: Value =
        serde_json::from_slice(&fs::read(out.join("trainer_state.json")).unwrap()).unwrap();
    assert_eq!(state["global_step"], 6);
    assert_eq!(state["log_history"].as_array().unwrap().len(), 7);
    let stats: Value =
        serde_json::from_slice(&fs::read(out.join("trainer_stats.json")).unwrap()).unwrap();
    assert_eq!(stats[0], 6);
    assert_eq!(stats[1], stats[2]["train_loss"]);

    let before = quickstart.adapter("out");
    quickstart
        .run("out", 1)
        .finish()
        .ended_with(13, &["a finished run", "--resume", "--overwrite"]);
    quickstart
        .run("out", 1)
        .args(["--resume"])
        .finish()
        .ended_with(0, &["nothing to do"]);
    assert_eq!(before, quickstart.adapter("out"));
    quickstart
        .run("out", 1)
        .args(["--overwrite"])
        .finish()
        .succeeded();
    assert_eq!(before, quickstart.adapter("out"));
}

#[test]
fn the_reports_have_the_figures_that_notebooks_print() {
    let quickstart = Quickstart::new();
    quickstart.run("out", 2).finish().ended_with(
        0,
        &[
            "Num examples = ",
            "Num Epochs = ",
            "Total steps = 6",
            "Batch size per device = ",
            "Gradient accumulation steps = ",
            "Total batch size = ",
            "Trainable parameters = ",
            "% trained)",
            "Max memory = ",
            "GiB of memory reserved.",
            "seconds used for training.",
            "minutes used for training.",
            "Peak reserved memory = ",
            "Peak reserved memory for training = ",
            "Peak reserved memory % of max memory = ",
            "Peak reserved memory for training % of max memory = ",
        ],
    );
}
