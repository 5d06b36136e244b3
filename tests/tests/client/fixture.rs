//! A queue as it might be found one day, and the commands on it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use weft_proto::v1::{EventLevel, Job, JobEvent, JobPhase, StepFigures, WorkerInfo};
use weft_tests::process::Weft;

use crate::stub::{Stub, World};

/// 2026-11-21 16:33:03Z.
pub(crate) const THEN: i64 = 1_795_278_783_000;

pub(crate) const RUNNING: &str = "job-019aa2b4c6d87000aaaaaaaaaaaaaaaa";
pub(crate) const WAITING: &str = "job-019aa2b4d0007000bbbbbbbbbbbbbbbb";
pub(crate) const DONE: &str = "job-019aa2b000007000cccccccccccccccc";
pub(crate) const FAILED: &str = "job-019aa2b000017000dddddddddddddddd";

/// Some seconds ago, in the middle of what is told as the same time.
pub(crate) fn ago(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() - seconds * 1000 - 500
}

/// One that runs, one that waits for it, and two that are over.
pub(crate) fn world() -> World {
    World {
        jobs: vec![done(), failed(), running(), waiting()],
        workers: vec![
            worker("019aa2b4-0001-7000-8000-000000000001", "ada", RUNNING),
            worker("019aa2b4-0002-7000-8000-000000000002", "grace", RUNNING),
        ],
        ..World::default()
    }
}

pub(crate) fn running() -> Job {
    Job {
        id: RUNNING.to_owned(),
        name: "medical".to_owned(),
        phase: JobPhase::Running.into(),
        committed_steps: 120,
        total_steps: 288,
        members: 2,
        workers: 2,
        min_workers: 1,
        max_workers: 4,
        loss: Some(2.145_99),
        tokens_per_second: 12_345.4,
        submitted_unix_ms: ago(200),
        started_unix_ms: ago(140),
        output_dir: "/data/medical".to_owned(),
        logging_steps: 1,
        ..Job::default()
    }
}

pub(crate) fn waiting() -> Job {
    Job {
        id: WAITING.to_owned(),
        phase: JobPhase::Queued.into(),
        workers: 2,
        min_workers: 2,
        max_workers: 2,
        priority: -1,
        waits: "jobs that come first have the workers; it needs 2".to_owned(),
        submitted_unix_ms: ago(90),
        worker_labels: [("gpu".to_owned(), "h200".to_owned())].into(),
        worker_memory_bytes: 40 << 30,
        output_dir: "/data/second".to_owned(),
        ..Job::default()
    }
}

fn done() -> Job {
    Job {
        id: DONE.to_owned(),
        name: "first".to_owned(),
        phase: JobPhase::Succeeded.into(),
        detail: "succeeded after 10 steps".to_owned(),
        committed_steps: 10,
        total_steps: 10,
        workers: 1,
        min_workers: 1,
        max_workers: 1,
        loss: Some(1.5),
        submitted_unix_ms: THEN,
        started_unix_ms: THEN + 2_000,
        ended_unix_ms: THEN + 62_000,
        output_dir: "/data/first".to_owned(),
        ..Job::default()
    }
}

fn failed() -> Job {
    Job {
        id: FAILED.to_owned(),
        phase: JobPhase::Failed.into(),
        detail: "failed: the gradient of step 4 is infinite or not a number; lower training.learning_rate or check the \
                 data of that step; no checkpoint was saved"
            .to_owned(),
        committed_steps: 3,
        total_steps: 10,
        priority: 3,
        ..Job::default()
    }
}

pub(crate) fn worker(id: &str, host: &str, job: &str) -> WorkerInfo {
    WorkerInfo {
        worker: id.to_owned(),
        host: host.to_owned(),
        device: "cpu (2 threads)".to_owned(),
        memory_bytes: 24 << 30,
        labels: [
            ("zone".to_owned(), "a".to_owned()),
            ("rack".to_owned(), "7".to_owned()),
        ]
        .into(),
        ip: "10.0.0.7".to_owned(),
        job: job.to_owned(),
        slots_computed: 12_345,
        peak_resident_bytes: 3 << 29,
        kept_out: String::new(),
        gpu_health: String::new(),
        gpu_celsius: None,
    }
}

pub(crate) fn event(number: u64, unix_ms: i64, kind: &str, text: &str) -> JobEvent {
    let level = match kind {
        "member_lost" => EventLevel::Warning,
        _ => EventLevel::Info,
    };
    JobEvent {
        number,
        unix_ms,
        level: level.into(),
        kind: kind.to_owned(),
        text: text.to_owned(),
    }
}

/// A step, two seconds after the one before.
pub(crate) fn step(step: u64) -> StepFigures {
    StepFigures {
        step,
        unix_ms: THEN + 2_000 * i64::try_from(step).unwrap(),
        loss: 7.0 - step as f64 / 100.0,
        grad_norm: 1.0685,
        learning_rate: 4e-4,
        tokens: 1_000,
        supervised_tokens: 400,
        step_seconds: 0.1,
        workers: 2,
        epoch: step as f64 / 24.0,
    }
}

/// What the others say when a worker is lost.
pub(crate) const LOST: &str = "lost worker 019aa2b4-0003-7000-8000-000000000003 on host mary (rank 2, cpu (2 threads)) in \
     step 118: silent for 1.6 s; 2 micro-batches are computed again, 2 workers go on";

/// A command on the stub's queue.
pub(crate) fn weft(stub: &Stub, arguments: &[&str]) -> Weft {
    let url = stub.url();
    Weft::new(Path::new("cache-that-is-not-used"), arguments).env("WEFT_COORDINATOR", url)
}

/// What a command prints that succeeds, with the stub's address as `URL`.
#[track_caller]
pub(crate) fn printed(stub: &Stub, arguments: &[&str]) -> String {
    let finished = weft(stub, arguments).finish();
    finished.succeeded();
    finished.printed.replace(&stub.url(), "URL")
}

/// The JSON that a command prints.
#[track_caller]
pub(crate) fn json(stub: &Stub, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&printed(stub, arguments)).unwrap()
}
