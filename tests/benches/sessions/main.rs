//! The control plane at its design size: 512 worker sessions over real gRPC, with computing stubbed out.
//!
//! `cargo bench --workspace --bench sessions` runs the coordinator in this process and all sessions in another one, so
//! that memory and processor time told are the coordinator's. Both share the machine's processors: where these are busy, the
//! times of a step are those of coordinator and workers together. `-- WORKERS STEPS SLOTS` asks for other numbers: SLOTS
//! is the number of micro-batches a worker computes in each step.
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
    let slots = numbers.get(2).copied().unwrap_or(1);
    measure(workers, u64::from(steps), slots).await;
}

async fn measure(workers: u32, steps: u64, slots: u32) {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::bind(CoordinatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        state_dir: dir.path().join("state"),
        after: Term(0),
        data: Arc::new(Rows {
            dir: dir.path().to_owned(),
            number: (workers * slots) as usize * 4,
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
        recipe: recipe(workers * slots, steps),
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
    let mut before = None;
    let outcome = loop {
        match notices.next().await.unwrap() {
            Notice::StepCommitted(report) => {
                reports.push(report);
                if reports.len() == WARM_UP {
                    before = Some(Spent::by(&sessions));
                }
            }
            Notice::Ended(outcome) => break outcome,
            Notice::MemberLost(incident) => println!("{incident}"),
            _ => {}
        }
    };
    let spent = Spent::by(&sessions).since(before.unwrap_or_default());
    let memory = resident_bytes();
    coordinator.shutdown("measured").await;
    sessions.wait().unwrap();
    assert!(matches!(outcome, JobOutcome::Succeeded { .. }), "{outcome}");
    tell(workers, &reports, &spent, memory);
}

/// What processors did, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    coordinator: f64,
    workers: f64,
}

impl Spent {
    fn by(workers: &Child) -> Self {
        Self {
            coordinator: processor_seconds("self"),
            workers: processor_seconds(&workers.id().to_string()),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            coordinator: self.coordinator - before.coordinator,
            workers: self.workers - before.workers,
        }
    }
}

/// What all processors have done for a process, for itself and within the system.
fn processor_seconds(process: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, in parentheses, may hold anything.
    let (_, after) = text.rsplit_once(')').unwrap();
    let field = |at: usize| after.split_whitespace().nth(at).unwrap().parse::<f64>();
    // Linux counts in hundredths.
    (field(11).unwrap() + field(12).unwrap()) / 100.0
}

fn spawn_sessions(url: &str, workers: u32) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([SESSIONS, url, &workers.to_string()]);
    command.spawn().unwrap()
}

/// So many micro-batches of one row a step.
fn recipe(slots: u32, steps: u64) -> Recipe {
    let text = format!(
        r#"{{"model": {{"base_model": "/fake", "max_seq_length": 32}},
             "datasets": [{{"path": "/fake.jsonl"}}],
             "training": {{"per_device_train_batch_size": 1, "gradient_accumulation_steps": {slots},
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

fn tell(workers: u32, reports: &[StepReport], spent: &Spent, memory: u64) {
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
    line("commit round (all micro-batches in, to the commit)", &|r| {
        r.timing.commit
    });
    line("ledger, part of both", &|r| r.timing.ledger);
    let each = |seconds: f64| seconds * 1e3 / counted.len().max(1) as f64;
    println!(
        "processor time a step: coordinator {:.1} ms, all workers {:.1} ms",
        each(spent.coordinator),
        each(spent.workers)
    );
    println!(
        "resident memory of the coordinator: {:.0} MB",
        memory as f64 / 1e6
    );
}
