//! Random faults, one after the other, decided by a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weft_tests::cluster::{Cluster, Start, Undisturbed, twenty_steps};
use weft_tests::process::send;

/// Schedules that run without being asked for; `WEFT_FAULT_SCHEDULES` asks for more.
const SCHEDULES: u64 = 6;

/// Schedules at a time.
const LANES: usize = 2;

/// Faults of one schedule.
const FAULTS: u32 = 8;

#[test]
fn random_schedules_of_faults_end_in_the_same_bits_as_none() {
    let asked = std::env::var("WEFT_FAULT_SCHEDULES").ok();
    let schedules = asked.map_or(SCHEDULES, |asked| asked.parse().unwrap());
    let undisturbed = Undisturbed::twenty_steps();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= schedules {
                        return;
                    }
                    let mut schedule = Schedule::new(seed);
                    schedule.run();
                    schedule.cluster.ends_like(undisturbed);
                }
            });
        }
    });
}

/// A cluster that is disturbed.
struct Schedule {
    seed: u64,
    random: Random,
    cluster: Cluster,
    /// Stopped workers, and when each goes on.
    asleep: Vec<(Instant, u32)>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::start(twenty_steps(), 3, &Start::plain());
        for _ in 0..3 {
            cluster.come(&Start::plain());
        }
        Self {
            seed,
            random: Random(seed),
            cluster,
            asleep: Vec::new(),
        }
    }

    /// Disturbs until the job is over or the faults are used up.
    fn run(&mut self) {
        self.cluster.coordinator().wait_for("step committed");
        for _ in 0..FAULTS {
            // Time between faults is a part of the schedule.
            thread::sleep(self.random.millis(50, 900));
            self.wake(Instant::now());
            if !self.cluster.coordinator().is_alive() {
                break;
            }
            self.disturb();
        }
        for (_, pid) in std::mem::take(&mut self.asleep) {
            send(pid, "CONT");
        }
    }

    fn wake(&mut self, now: Instant) {
        let due = self.asleep.extract_if(.., |(until, _)| *until <= now);
        for (_, pid) in due {
            send(pid, "CONT");
        }
    }

    fn disturb(&mut self) {
        let alive: Vec<usize> = (0..self.cluster.worker_count())
            .filter(|number| self.cluster.worker(*number).is_alive())
            .collect();
        let chosen = alive[self.random.below(alive.len() as u64) as usize];
        let fault = self.random.below(5);
        let worker = self.cluster.worker(chosen);
        eprintln!("seed {}: fault {fault}, worker {chosen}", self.seed);
        match fault {
            0 => {
                worker.kill();
                self.cluster.come(&Start::plain());
            }
            1 => {
                worker.stop();
                let pid = worker.pid();
                let until = Instant::now() + self.random.millis(100, 3000);
                self.asleep.push((until, pid));
            }
            2 => {
                worker.terminate();
                self.cluster.come(&Start::plain());
            }
            3 => {
                self.cluster.come(&Start::plain());
            }
            _ => {
                self.cluster.bury();
                thread::sleep(self.random.millis(0, 1000));
                self.cluster.restart();
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}
