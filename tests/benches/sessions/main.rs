//! The control plane at its design size: 512 worker sessions over real gRPC, with computing stubbed out.
//!
//! `cargo bench -p weft-tests --bench sessions` runs the coordinator in this process and all sessions in another one, so
//! that the memory told is the coordinator's. `-- WORKERS STEPS` asks for other numbers.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot be set up fails"
)]

mod session;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use weft_common::data::RowStat;
use weft_common::id::{Digest, JobId, Term};
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::DatasetRef;
use weft_coordinator::{
    Coordinator, CoordinatorConfig, DataSource, JobOutcome, JobSpec, Limits, Needs, Notice,
    OnNonFinite, PreparedData, StepReport, WorkersBefore,
};

/// Tells a process to be the workers.
const SESSIONS: &str = "--sessions-at";

/// Steps that are not counted: connections and caches are still cold.
const WARM_UP: usize = 5;

/// Four rows for each worker.
struct Rows {
    dir: PathBuf,
    number: usize,
}

impl DataSource for Rows {
    fn prepare(&self, _: &Recipe) -> Result<PreparedData, String> {
        let stat = RowStat {
            tokens: 10,
            supervised: 4,
        };
        Ok(PreparedData {
            dataset: DatasetRef {
                digest: Digest::of(b"rows"),
                dir: self.dir.clone(),
                files: Vec::new(),
            },
            stats: Arc::from(vec![stat; self.number]),
        })
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let sessions = arguments.iter().position(|argument| argument == SESSIONS);
    if let Some(at) = sessions {
        let number = arguments[at + 2].parse().unwrap();
        return session::run_all(&arguments[at + 1], number).await;
    }
    let numbers = arguments.iter().filter_map(|text| text.parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.collect();
    let workers = numbers.first().copied().unwrap_or(512);
    let steps = numbers.get(1).copied().unwrap_or(200);
    measure(workers, u64::from(steps)).await;
}

async fn measure(workers: u32, steps: u64) {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::bind(CoordinatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        state_dir: dir.path().join("state"),
        after: Term(0),
        data: Arc::new(Rows {
            dir: dir.path().to_owned(),
            number: workers as usize * 4,
        }),
        queue: None,
        limits: Limits::default(),
    })
    .await
    .unwrap();
    let mut sessions = spawn_sessions(&format!("http://{}", coordinator.addr), workers);
    let spec = JobSpec {
        id: JobId::generate(),
        name: String::new(),
        recipe: recipe(workers, steps),
        workers,
        priority: 0,
        gang: None,
        needs: Needs::default(),
        form_within: Duration::from_secs(120),
        output_dir: dir.path().join("out"),
        resume: None,
        workers_before: WorkersBefore::Gone,
        on_non_finite: OnNonFinite::Fail,
    };
    let (_, mut notices) = coordinator.handle.submit(spec).await.unwrap();
    let mut reports = Vec::new();
    let outcome = loop {
        match notices.next().await.unwrap() {
            Notice::StepCommitted(report) => reports.push(report),
            Notice::Ended(outcome) => break outcome,
            Notice::MemberLost(incident) => println!("{incident}"),
            _ => {}
        }
    };
    let memory = resident_bytes();
    coordinator.shutdown("measured").await;
    sessions.wait().unwrap();
    assert!(matches!(outcome, JobOutcome::Succeeded { .. }), "{outcome}");
    tell(workers, &reports, memory);
}

fn spawn_sessions(url: &str, workers: u32) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([SESSIONS, url, &workers.to_string()]);
    command.spawn().unwrap()
}

/// As many micro-batches of one row a step as there are workers.
fn recipe(workers: u32, steps: u64) -> Recipe {
    let text = format!(
        r#"{{"model": {{"base_model": "/fake", "max_seq_length": 32}},
             "datasets": [{{"path": "/fake.jsonl"}}],
             "training": {{"per_device_train_batch_size": 1, "gradient_accumulation_steps": {workers},
                           "max_steps": {steps}, "save_steps": 0}}}}"#
    );
    Recipe::parse(&text, Format::Json).unwrap()
}

/// Resident memory of this process, as the kernel accounts for it.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
    kib.parse::<u64>().unwrap() * 1024
}

fn tell(workers: u32, reports: &[StepReport], memory: u64) {
    let counted = &reports[WARM_UP.min(reports.len().saturating_sub(1))..];
    println!("{workers} sessions, {} steps", counted.len());
    let line = |name: &str, of: &dyn Fn(&StepReport) -> Duration| {
        let mut times: Vec<Duration> = counted.iter().map(of).collect();
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "{name}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            at(50),
            at(99),
            at(100)
        );
    };
    line("whole step (lease, report, seal, reduce, commit)", &|r| {
        r.timing.total
    });
    line("ledger", &|r| r.timing.ledger);
    println!(
        "resident memory of the coordinator: {:.0} MB",
        memory as f64 / 1e6
    );
}
