//! `weft submit`.

use serde_json::{Value, json};
use weft_proto::v1::JobPhase;
use weft_tests::process::Weft;
use weft_tests::quickstart::Quickstart;

use crate::stub::{Stub, World};

fn submit(stub: &Stub, quickstart: &Quickstart, arguments: &[&str]) -> Weft {
    quickstart
        .weft("submit")
        .args(["--coordinator", &stub.url()])
        .arg_path("--output", &quickstart.output("out"))
        .args(arguments)
}

#[test]
fn a_submitted_job_is_its_id_alone_on_standard_output() {
    let stub = Stub::start(World::default());
    let quickstart = Quickstart::new();
    let arguments = [
        "--name",
        "medical",
        "--workers",
        "2",
        "--priority",
        "-3",
        "--label",
        "gpu=h200",
        "--memory",
        "1.5",
    ];
    let finished = submit(&stub, &quickstart, &arguments).finish();
    finished.ended_with(
        0,
        &[
            "submitted job-",
            "(medical): it waits for its turn",
            "`weft watch job-",
        ],
    );
    let job = &stub.world().jobs[0];
    assert_eq!(finished.printed, job.id);

    let asked = &stub.world().submitted[0];
    assert_eq!(
        (asked.workers, asked.priority, asked.worker_memory_bytes),
        (2, -3, 3 << 29)
    );
    assert_eq!(asked.worker_labels["gpu"], "h200");
    assert_eq!(asked.output_dir, quickstart.output("out").to_str().unwrap());
    assert!(!asked.resume_newest);
    let recipe: Value = serde_json::from_str(&asked.recipe_json).unwrap();
    assert_eq!(recipe["training"]["max_steps"], 6, "--set is laid over it");
    let path = recipe["datasets"][0]["path"].as_str().unwrap();
    assert!(path.starts_with('/'), "{path}");
}

#[test]
fn what_can_be_refused_here_is_refused_together_and_nothing_is_handed_in() {
    let stub = Stub::start(World::default());
    let quickstart = Quickstart::new().set("model.max_seq_length=100000");
    std::fs::create_dir_all(quickstart.output("out/checkpoints")).unwrap();
    let finished = submit(&stub, &quickstart, &["--workers", "99"]).finish();
    finished.ended_with(
        10,
        &[
            "3 problems",
            "--workers 99 lies outside",
            "context",
            "holds files of a run; continue it with --resume",
        ],
    );
    assert_eq!(finished.printed, "");
    assert!(stub.world().submitted.is_empty());
    quickstart
        .weft("submit")
        .args(["--memory", "lots"])
        .finish()
        .ended_with(2, &["lots"]);
}

#[test]
fn a_used_folder_is_gone_on_with_where_that_is_asked_for() {
    let stub = Stub::start(World::default());
    let quickstart = Quickstart::new();
    std::fs::create_dir_all(quickstart.output("out/checkpoints")).unwrap();
    submit(&stub, &quickstart, &["--resume"])
        .finish()
        .succeeded();
    assert!(stub.world().submitted[0].resume_newest);
}

#[test]
fn what_the_coordinator_refuses_has_the_code_that_it_has_in_a_run() {
    let stub = Stub::start(World {
        refuses: Some(("datasets[0]: no rows are left".to_owned(), "data")),
        ..World::default()
    });
    let finished = submit(&stub, &Quickstart::new(), &[]).finish();
    finished.ended_with(11, &["error: datasets[0]: no rows are left"]);
}

#[test]
fn a_submission_without_an_answer_may_have_arrived() {
    let stub = Stub::start(World {
        hangs: true,
        ..World::default()
    });
    let finished = submit(&stub, &Quickstart::new(), &["--timeout", "3"]).finish();
    finished.ended_with(
        13,
        &[
            "looks at recipe, model and data",
            "`weft jobs` shows whether it took the job",
        ],
    );
}

#[test]
fn a_submitted_job_can_be_watched_at_once() {
    let stub = Stub::start(World::default());
    let quickstart = Quickstart::new();
    let mut submit = submit(&stub, &quickstart, &["--watch"]).start();
    submit.wait_for("submitted job-");
    stub.change(|world| {
        world.jobs[0].phase = JobPhase::Cancelled.into();
        world.jobs[0].detail = "cancelled; no checkpoint was saved".to_owned();
    });
    submit.finish().ended_with(30, &["cancelled"]);
}

#[test]
fn a_submission_in_json_is_the_job() {
    let stub = Stub::start(World::default());
    let finished = submit(&stub, &Quickstart::new(), &["--json"]).finish();
    finished.succeeded();
    let document: Value = serde_json::from_str(&finished.printed).unwrap();
    assert_eq!(document["state"], "queued");
    assert_eq!(document["id"], json!(stub.world().jobs[0].id));
}
