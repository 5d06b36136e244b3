//! How soon a loss is noticed, and how soon the next step is committed: real processes on the quickstart, three workers.
//!
//! `cargo bench --workspace --bench recovery [-- RUNS]`; 50 runs of each fault without a number. With `--profile dev` it
//! takes the binary that the tests use, and with `WEFT_BINARY=PATH` any other.

use std::time::{Duration, Instant};

use weft_tests::cluster::{Cluster, Start};
use weft_tests::process::{Running, binary};
use weft_tests::quickstart::Quickstart;

const WORKERS: u32 = 3;

/// A fault and what is demanded of its healing.
struct Fault {
    name: &'static str,
    inflict: fn(&Running),
    noticed_within: f64,
    again_within: f64,
}

const FAULTS: [Fault; 2] = [
    Fault {
        name: "process death (kill -9)",
        inflict: Running::kill,
        noticed_within: 0.2,
        again_within: 1.0,
    },
    Fault {
        name: "stopped process (kill -STOP)",
        inflict: Running::stop,
        noticed_within: 1.5,
        again_within: 3.0,
    },
];

/// Seconds from the signal on, and of a step before it.
struct Recovery {
    step: f64,
    noticed: f64,
    formed: f64,
    again: f64,
}

fn main() {
    let runs = std::env::args().find_map(|argument| argument.parse().ok());
    let runs: u32 = runs.unwrap_or(50);
    println!("{runs} runs of each fault, {WORKERS} workers; {}", load());
    println!("binary {}", binary().display());
    for fault in &FAULTS {
        let recoveries: Vec<Recovery> = (0..runs).map(|run| recover(fault, run)).collect();
        println!("\n{}", fault.name);
        let of = |name: &str, bar: Option<f64>, value: fn(&Recovery) -> f64| {
            report(name, bar, recoveries.iter().map(value).collect());
        };
        of("a step, undisturbed", None, |recovery| recovery.step);
        of("noticed", Some(fault.noticed_within), |recovery| {
            recovery.noticed
        });
        of("members agreed anew", None, |recovery| recovery.formed);
        of(
            "next step committed",
            Some(fault.again_within),
            |recovery| recovery.again,
        );
        println!("{}", load());
    }
}

/// One run: the fault comes at another moment of the step each time.
fn recover(fault: &Fault, run: u32) -> Recovery {
    let quickstart = Quickstart::new()
        .set("training.max_steps=1000")
        .set("training.save_steps=1000");
    let mut cluster = Cluster::start(quickstart, WORKERS, &Start::plain());
    let workers: Vec<usize> = (0..WORKERS)
        .map(|_| cluster.join(&Start::plain()))
        .collect();
    let coordinator = cluster.coordinator();
    let before = coordinator.wait_for_line("step committed").at;
    let step = coordinator.wait_for_line("step committed").at - before;
    // The moment within the step is what the runs differ in.
    std::thread::sleep(step * (run * 7 % 20) / 20);
    let victim = workers[run as usize % workers.len()];
    let start = Instant::now();
    (fault.inflict)(cluster.worker(victim));
    let coordinator = cluster.coordinator();
    let mut after = |text| since(start, coordinator.wait_for_line(text).at);
    let (noticed, formed, again) = (
        after("member lost"),
        after("epoch formed"),
        after("step committed"),
    );
    Recovery {
        step: step.as_secs_f64(),
        noticed,
        formed,
        again,
    }
}

fn since(start: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(start)
        .max(Duration::ZERO)
        .as_secs_f64()
}

/// A line of figures, and a histogram in ten classes.
fn report(name: &str, bar: Option<f64>, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(0.0), at(1.0));
    let bar = bar.map_or(String::new(), |bar| {
        let within = seconds.iter().filter(|value| **value <= bar).count();
        format!(" | bar {bar} s: {within} of {} within", seconds.len())
    });
    println!(
        "{name:>20}: median {:.3} s, p99 {:.3} s, max {high:.3} s{bar}",
        at(0.5),
        at(0.99)
    );
    let width = ((high - low) / 10.0).max(1e-3);
    for class in 0..10 {
        let from = low + width * f64::from(class);
        let inside = |value: &&f64| ((**value - low) / width).floor().min(9.0) == f64::from(class);
        let count = seconds.iter().filter(inside).count();
        if count > 0 {
            println!("{:>28.3} s {}", from, "#".repeat(count));
        }
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load: Vec<&str> = text.split(' ').take(3).collect();
    format!("load {} on {cores} cores", load.join(" "))
}
