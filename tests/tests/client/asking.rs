//! What `jobs`, `status` and `workers` show.

use std::path::Path;

use serde_json::json;
use weft_proto::v1::JobPhase;
use weft_tests::process::Weft;

use crate::fixture::{
    DONE, FAILED, LOST, RUNNING, THEN, WAITING, event, json, printed, running, step, weft, world,
};
use crate::stub::{Stub, World};

#[test]
fn the_queue_is_a_table() {
    let stub = Stub::start(world());
    let table = "\
JOB                NAME      STATE        STEP     LOSS   WORKERS   PRIORITY   SUBMITTED   WHY
job-019aa2b4c6d8   medical   running   120/288   2.1460       2/2          0   3 min ago   -
job-019aa2b4d000   -         queued          -        -       0/2         -1   1 min ago   jobs that come first have the workers; it needs 2";
    assert_eq!(printed(&stub, &["jobs"]), table);
}

#[test]
fn jobs_that_are_over_are_shown_with_why_they_failed() {
    let stub = Stub::start(World {
        left_out: 1234,
        ..world()
    });
    let finished = weft(&stub, &["jobs", "--all"]).finish();
    let lines: Vec<&str> = finished.printed.lines().collect();
    assert_eq!(lines.len(), 5, "{}", finished.text);
    assert!(lines[1].starts_with("job-019aa2b00000   first     succeeded     10/10"));
    assert!(
        lines[2]
            .ends_with("the gradient of step 4 is infinite or not a number; lower training.lear…"),
        "{}",
        lines[2]
    );
    assert!(finished.text.contains("1,234 older ones are not shown"));
}

#[test]
fn an_empty_queue_prints_nothing_and_says_so() {
    let stub = Stub::start(World::default());
    for (arguments, said) in [
        (&["jobs"][..], "no job waits or runs"),
        (&["jobs", "--all"], "no job was ever submitted"),
        (
            &["workers"],
            "no worker is there; start some with `weft worker --coordinator",
        ),
    ] {
        let finished = weft(&stub, arguments).finish();
        finished.ended_with(0, &[said]);
        assert_eq!(finished.printed, "", "{arguments:?}");
    }
    assert_eq!(
        json(&stub, &["jobs", "--json"]),
        json!({"jobs": [], "left_out": 0})
    );
    assert_eq!(json(&stub, &["workers", "--json"]), json!({"workers": []}));
}

#[test]
fn the_names_in_json_are_those_that_are_promised() {
    let stub = Stub::start(world());
    let jobs = json(&stub, &["jobs", "--all", "--json"]);
    let done = json!({
        "id": DONE,
        "name": "first",
        "state": "succeeded",
        "detail": "succeeded after 10 steps",
        "waits": null,
        "committed_steps": 10,
        "total_steps": 10,
        "loss": 1.5,
        "tokens_per_second": 0.0,
        "members": 0,
        "workers": 1,
        "min_workers": 1,
        "max_workers": 1,
        "priority": 0,
        "members_lost": 0,
        "worker_memory_bytes": 0,
        "worker_labels": {},
        "output_dir": "/data/first",
        "submitted_unix_ms": THEN,
        "started_unix_ms": THEN + 2_000,
        "ended_unix_ms": THEN + 62_000,
    });
    assert_eq!(jobs["jobs"][0], done);
    let workers = json(&stub, &["workers", "--json"]);
    let worker = json!({
        "worker": "019aa2b4-0001-7000-8000-000000000001",
        "host": "ada",
        "ip": "10.0.0.7",
        "device": "cpu (2 threads)",
        "memory_bytes": 25_769_803_776_u64,
        "labels": {"rack": "7", "zone": "a"},
        "job": RUNNING,
        "micro_batches": 12_345,
        "peak_resident_bytes": 1_610_612_736,
        "kept_out": null,
        "gpu_health": null,
        "gpu_celsius": null,
    });
    assert_eq!(workers["workers"][0], worker);
}

#[test]
fn workers_are_a_table() {
    let stub = Stub::start(world());
    let table = "\
WORKER             HOST    ADDRESS    DEVICE              MEMORY      PEAK   MICRO-BATCHES   JOB                LABELS
019aa2b4-0001-70   ada     10.0.0.7   cpu (2 threads)   24.0 GiB   1.5 GiB          12,345   job-019aa2b4c6d8   rack=7,zone=a
019aa2b4-0002-70   grace   10.0.0.7   cpu (2 threads)   24.0 GiB   1.5 GiB          12,345   job-019aa2b4c6d8   rack=7,zone=a";
    assert_eq!(printed(&stub, &["workers"]), table);
}

/// Moments are the machine's own.
fn without_times(text: &str) -> String {
    let time = |line: &str| {
        let (before, rest) = line.split_once(" (20")?;
        let (_, after) = rest.split_once("Z)")?;
        Some(format!("{before} (TIME){after}"))
    };
    let lines: Vec<String> = text
        .lines()
        .map(|line| time(line).unwrap_or_else(|| line.to_owned()))
        .collect();
    lines.join("\n")
}

#[test]
fn the_status_of_a_waiting_job_says_what_it_waits_for() {
    let stub = Stub::start(world());
    let text = "\
job         job-019aa2b4d0007000bbbbbbbbbbbbbbbb
state       queued
waits       jobs that come first have the workers; it needs 2
            1 job comes first: medical (running)
            it asks for gpu=h200 and 40.0 GiB of memory; 2 workers are there, 0 of them with that, 0 of those free; it needs \
2 workers: start more with `weft worker --coordinator URL`
workers     0 of 2 workers; 2 to 2 are possible
needs       gpu=h200 and 40.0 GiB of memory, of every worker
priority    -1
submitted   1 min ago (TIME)
output      /data/second";
    let shown = without_times(&printed(&stub, &["status", "job-019aa2b4d"]));
    assert_eq!(shown, text);
    let queue = &json(&stub, &["status", WAITING, "--json"])["queue"];
    let expected = json!({
        "jobs_before": [{"id": RUNNING, "name": "medical", "state": "running"}],
        "workers": 2,
        "workers_suitable": 0,
        "workers_free": 0,
        "workers_kept_out": [],
    });
    assert_eq!(*queue, expected);
}

#[test]
fn the_status_after_an_incident_says_who_was_lost_why_what_it_cost_and_when_training_went_on() {
    let stub = Stub::start(World {
        events: vec![
            event(7, THEN, "submitted", "submitted"),
            event(9, THEN + 235_200, "member_lost", LOST),
            event(
                12,
                THEN + 235_300,
                "epoch_formed",
                "epoch 2: 2 workers, step 118 goes on",
            ),
        ],
        steps: (1..=120).map(step).collect(),
        ..world()
    });
    let text = format!(
        "\
job         {RUNNING} (medical)
state       running
progress    [############------------------] 41%, step 120 of 288, about 5 min left
loss        2.1460
speed       12,345 tokens/s
workers     2 of 2 workers; 1 to 4 are possible
submitted   3 min ago (TIME)
started     2 min ago (TIME), after a wait of 1 min
output      /data/medical

incidents
  2026-11-21 16:36:58Z  {LOST}
                        training went on: step 118 was committed 0.8 s later"
    );
    let shown = without_times(&printed(&stub, &["status", "medical"]));
    assert_eq!(shown, text);
    let document = json(&stub, &["status", "medical", "--json"]);
    let incident = json!([{
        "number": 9,
        "unix_ms": THEN + 235_200,
        "level": "warning",
        "kind": "member_lost",
        "text": LOST,
        "next_commit_step": 118,
        "next_commit_after_seconds": 0.8,
    }]);
    assert_eq!(document["incidents"], incident);
    assert_eq!(document["seconds_left"], 336.0);
}

#[test]
fn the_status_of_a_job_that_is_over_says_how_it_ended() {
    let stub = Stub::start(world());
    let shown = printed(&stub, &["status", "first"]);
    assert!(
        shown.contains("state       succeeded after 10 steps"),
        "{shown}"
    );
    assert!(
        shown.contains("(2026-11-21 16:34:05Z), after a run of 1 min"),
        "{shown}"
    );
    let shown = printed(&stub, &["status", FAILED]);
    assert!(
        shown.contains("state       failed: the gradient of step 4"),
        "{shown}"
    );
}

#[test]
fn a_coordinator_without_records_is_asked_for_what_it_has() {
    let stub = Stub::start(World {
        keeps_no_records: true,
        ..world()
    });
    let shown = printed(&stub, &["status", "medical"]);
    assert!(
        shown.contains("step 120 of 288") && !shown.contains("incidents"),
        "{shown}"
    );
    weft(&stub, &["logs", "medical"])
        .finish()
        .ended_with(21, &["keeps no records"]);
}

#[test]
fn a_state_of_a_later_version_is_shown_as_unknown() {
    let mut job = running();
    job.phase = 99;
    assert_eq!(job.phase(), JobPhase::Unspecified);
    let stub = Stub::start(World {
        jobs: vec![job],
        ..World::default()
    });
    assert!(printed(&stub, &["jobs"]).contains("   unknown   "));
    assert!(printed(&stub, &["status", "medical"]).contains("unknown to this version"));
}

#[test]
fn doctor_asks_a_coordinator_for_its_version() {
    let stub = Stub::start(world());
    let url = stub.url();
    let finished = weft(&stub, &["doctor", "--coordinator", &url]).finish();
    let expected = format!("weft {}, 2 workers", env!("CARGO_PKG_VERSION"));
    finished.ended_with(0, &[&url, &expected]);
    drop(stub);

    let finished = Weft::new(
        Path::new("cache-that-is-not-used"),
        ["doctor", "--coordinator", "127.0.0.1:1"],
    )
    .finish();
    finished.ended_with(13, &["http://127.0.0.1:1"]);
}
