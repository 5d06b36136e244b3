//! The control plane in simulation: what must never break does not, whatever goes wrong; and a mistake would be seen.
//!
//! `cargo run -p weft-tests --bin weft-sim -- --seeds 100000` looks further, `--seed N` tells one run in full.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_tests::sim::{Bite, Planted, Report, Setup, run};

/// Seeds that once broke something; what they found is mended, and stays so.
const KEPT: [u64; 10] = [17, 21, 38, 398, 519, 1381, 1855, 2569, 3873, 17276];

/// Runs all seeds: those that break something, and what faults did in any of them.
fn search(
    seeds: std::ops::Range<u64>,
    setup: impl Fn(u64) -> Setup + Sync,
) -> (Vec<Report>, BTreeSet<Bite>) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let (mut broken, mut bites) = (Vec::new(), BTreeSet::new());
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return (broken, bites);
                        }
                        let report = run(&setup(seed), false);
                        bites.extend(report.bites.iter().copied());
                        if !report.violations.is_empty() {
                            broken.push(report);
                        }
                    }
                })
            })
            .collect();
        let (mut broken, mut bites) = (Vec::new(), BTreeSet::new());
        for searcher in searchers {
            let (found, bitten) = searcher.join().expect("a simulation does not panic");
            broken.extend(found);
            bites.extend(bitten);
        }
        (broken, bites)
    })
}

fn say(reports: &[Report]) -> Vec<String> {
    let line = |report: &Report| format!("seed {}: {:?}", report.setup.seed, report.violations);
    reports.iter().take(10).map(line).collect()
}

/// Every kind of fault must have done something to somebody, else it would prove nothing.
#[test]
fn nothing_breaks_under_four_thousand_seeds_of_faults() {
    let (broken, bites) = search(0..4000, Setup::of);
    assert!(broken.is_empty(), "{:#?}", say(&broken));
    let harmless = Bite::ALL.into_iter().filter(|bite| !bites.contains(bite));
    assert_eq!(harmless.collect::<Vec<_>>(), [], "faults that never bit");
}

#[test]
fn seeds_that_once_broke_something_do_not_any_more() {
    for seed in KEPT {
        let report = run(&Setup::of(seed), false);
        assert!(report.violations.is_empty(), "{:#?}", say(&[report]));
    }
}

/// The bits of a run do not depend on what happened to it, nor on how many workers there were.
#[test]
fn two_hundred_schedules_of_faults_end_in_the_same_bits_as_none() {
    let (mut faults, mut processes, mut coordinators, mut epochs) = (0, 0, 0, 0);
    for seed in 0..200 {
        let setup = Setup {
            faults: 12,
            hosts: 4,
            workers: 3,
            min_workers: 1,
            ..Setup::of(seed)
        };
        let disturbed = run(&setup, false);
        assert!(disturbed.violations.is_empty(), "{:#?}", say(&[disturbed]));
        let alone = Setup {
            hosts: 1,
            workers: 1,
            ..setup.clone().undisturbed()
        };
        let undisturbed = run(&alone, false);
        assert!(disturbed.state.is_some());
        assert_eq!(disturbed.state, undisturbed.state, "seed {seed}");
        faults += setup.faults;
        processes += disturbed.processes;
        coordinators += disturbed.coordinators;
        epochs += disturbed.epochs;
    }
    println!(
        "200 schedules: {faults} faults, {processes} worker processes, {coordinators} coordinators, {epochs} epochs"
    );
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 77] {
        let (first, second) = (run(&Setup::of(seed), true), run(&Setup::of(seed), true));
        assert!(first.log.len() > 50);
        assert_eq!(first.log, second.log);
    }
}

/// A mistake in the drivers is found, by the invariant that is there for it.
#[test]
fn planted_mistakes_are_found() {
    let mistakes = [
        (Planted::CountTwice, "exactly once"),
        (Planted::CommitBeforeLedger, "durable"),
        (Planted::ApplyWithoutCommit, "durable"),
    ];
    for (planted, invariant) in mistakes {
        let (found, _) = search(0..300, |seed| Setup {
            planted: Some(planted),
            ..Setup::of(seed)
        });
        let named = found.iter().filter(|report| {
            report
                .violations
                .iter()
                .any(|what| what.starts_with(invariant))
        });
        assert!(
            named.count() > 0,
            "{planted:?} was not found: {:#?}",
            say(&found)
        );
    }
}
