//! `weft-sim`: many seeds of the simulation, or one of them told in full.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use weft_tests::sim::{Setup, run};

const USAGE: &str = "usage: weft-sim [--seeds N] [--first SEED] | --seed SEED";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut first) = (2000, 0);
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (argument.as_str(), number) {
            ("--seeds", Some(number)) => seeds = number,
            ("--first", Some(number)) => first = number,
            ("--seed", Some(seed)) => return tell(seed),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    many(first, seeds)
}

/// Everything that happens under one seed.
fn tell(seed: u64) -> ExitCode {
    let report = run(&Setup::of(seed), true);
    for line in &report.log {
        println!("{line}");
    }
    println!("{:#?}", report.setup);
    for violation in &report.violations {
        println!("BROKEN {violation}");
    }
    ExitCode::from(u8::from(!report.violations.is_empty()))
}

fn many(first: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let broken: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut broken = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + seeds {
                            return broken;
                        }
                        let report = run(&Setup::of(seed), false);
                        broken.extend(report.violations.into_iter().map(|what| (seed, what)));
                    }
                })
            })
            .collect();
        let all = workers.into_iter().filter_map(|worker| worker.join().ok());
        all.flatten().collect()
    });
    for (seed, what) in &broken {
        println!("seed {seed}: {what}");
    }
    println!(
        "{seeds} seeds from {first} in {:.1} s: {} broken",
        began.elapsed().as_secs_f64(),
        broken.len()
    );
    ExitCode::from(u8::from(!broken.is_empty()))
}
