//! `weft-sim`: many seeds of the simulation, or one of them told in full.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use weft_tests::sim::{Setup, net, run};

const USAGE: &str =
    "usage: weft-sim [--seeds N] [--first SEED] | --seed SEED | --net-seed SEED | --net-seeds N";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut first) = (2000, 0);
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (argument.as_str(), number) {
            ("--seeds", Some(number)) => seeds = number,
            ("--first", Some(number)) => first = number,
            ("--seed", Some(seed)) => return tell(seed),
            ("--net-seed", Some(seed)) => return on_network(seed..seed + 1),
            ("--net-seeds", Some(number)) => return on_network(0..number),
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

/// Seeds on the simulated network, one after another. With `WEFT_SIM_LOG` set, all that happens is told.
fn on_network(seeds: Range<u64>) -> ExitCode {
    let began = Instant::now();
    let mut broken = 0;
    for seed in seeds.clone() {
        let report = net::run(&net::NetSetup::of(seed));
        if !report.violations.is_empty() || seeds.end == seeds.start + 1 {
            println!("seed {seed}: {report:#?}");
        }
        broken += u64::from(!report.violations.is_empty());
    }
    let (number, seconds) = (seeds.end - seeds.start, began.elapsed().as_secs_f64());
    println!("{number} seeds in {seconds:.1} s: {broken} broken");
    ExitCode::from(u8::from(broken > 0))
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
