//! Real coordinators and workers on a simulated network: what must never break does not, whatever happens to hosts and
//! links.
//!
//! `cargo run -p weft-tests --bin weft-sim -- --net-seeds 1000` looks further, `--net-seed N` repeats one.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_tests::sim::net::{NetReport, NetSetup, run};

/// Each takes about as long as its faults go on, in a fraction of the time.
const SEEDS: u64 = 60;

fn all(seeds: u64) -> Vec<NetReport> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut reports = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            return reports;
                        }
                        reports.push(run(&NetSetup::of(seed)));
                    }
                })
            })
            .collect();
        let reports = searchers
            .into_iter()
            .flat_map(|searcher| searcher.join().expect("a simulation does not panic"));
        reports.collect()
    })
}

#[test]
fn real_services_end_every_job_in_the_same_bits_whatever_happens_to_hosts_and_links() {
    let reports = all(SEEDS);
    let broken: Vec<String> = reports
        .iter()
        .filter(|report| !report.violations.is_empty())
        .map(|report| {
            let seed = report.setup.seed;
            format!(
                "{:?}; repeat it: cargo run -p weft-tests --bin weft-sim -- --net-seed {seed}",
                report.violations
            )
        })
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let faults: usize = reports.iter().map(|report| report.faults.len()).sum();
    let processes: usize = reports.iter().map(|report| report.processes).sum();
    let coordinators: u64 = reports.iter().map(|report| report.coordinators).sum();
    println!(
        "{SEEDS} seeds: {faults} faults, {processes} worker processes, {coordinators} coordinators"
    );
    assert!(processes > 2 * SEEDS as usize && coordinators > SEEDS);
}
