//! Appends 2,000 steps of six slots to a ledger and prints what a step costs: time to be durable, bytes, time to read.
//!
//! `cargo bench -p weft-common --bench ledger`; the ledger lies in `WEFT_BENCH_FOLDER`, else in the current folder, because a
//! temporary one may be in memory.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use weft_common::id::{Digest, Epoch, SlotId, Step, Term, WorkerId};
use weft_common::ledger::{CommitRecord, LedgerWriter, SlotRecord, Update, read};

const STEPS: u64 = 2_000;
const SLOTS: u32 = 6;
const ROWS_PER_SLOT: u32 = 4;

fn main() -> Result<()> {
    let parent = std::env::var_os("WEFT_BENCH_FOLDER").map_or_else(|| ".".into(), PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    let ledger = folder.path().join("ledger");
    let mut writer = LedgerWriter::open(&ledger, "job-1".parse()?, Term(1), Step(0))?;
    let mut bare = File::create(folder.path().join("bare"))?;
    let (mut appends, mut syncs, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, so that whatever else uses the disk slows all of them down.
    for step in 0..STEPS {
        let record = record(step);
        appends.push(timed(|| Ok(writer.append(&record)?))?);
        syncs.push(timed(|| bare_append(&mut bare))?);
        looks.push(timed(|| look(&ledger))?);
    }
    print("append        ", &mut appends);
    print("bare append   ", &mut syncs);
    print("look for fence", &mut looks);
    let bytes = size(&ledger)?;
    println!(
        "bytes         {:.0} kB for 1,000 steps of {SLOTS} slots",
        bytes as f64 / STEPS as f64
    );
    let start = Instant::now();
    let steps = read(&ledger)?.records.len();
    println!(
        "read          {steps} steps in {:.1} ms",
        milliseconds(start.elapsed())
    );
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// An append of the same size and its sync, without a ledger.
fn bare_append(file: &mut File) -> Result<()> {
    file.write_all(&[b'x'; 1_833])?;
    Ok(file.sync_data()?)
}

/// What each append does to find a fence.
fn look(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder)?.flatten();
    let fences = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".fence"));
    std::hint::black_box(fences.count());
    Ok(())
}

fn record(step: u64) -> CommitRecord {
    let digest = |number: u64| Digest::of(&number.to_le_bytes());
    let slots = (0..SLOTS).map(|slot| SlotRecord {
        slot: SlotId(slot),
        worker: WorkerId::from_number(u128::MAX / 3 + u128::from(slot % 3)),
        rows: (0..ROWS_PER_SLOT)
            .map(|row| 1_000 + slot * ROWS_PER_SLOT + row)
            .collect(),
        tokens: 3_217,
        supervised_tokens: 1_894,
        loss_sum: 2_345.678_901 / (1.0 + step as f64),
        digest: digest(step * u64::from(SLOTS) + u64::from(slot)),
    });
    CommitRecord {
        step: Step(step),
        data_epoch: 0,
        term: Term(1),
        epoch: Epoch(1),
        slots: slots.collect(),
        gradient_digest: digest(step),
        state_digest: digest(step + 1),
        update: Update::Apply,
        learning_rate: 2e-4 / (1.0 + step as f64),
        previous_grad_norm: 1.0 / (3.0 + step as f64),
    }
}

fn print(what: &str, taken: &mut [Duration]) {
    taken.sort_unstable();
    let at = |share: usize| milliseconds(taken[taken.len() * share / 100]);
    println!("{what} {:.3} ms median, {:.3} ms p99", at(50), at(99));
}

fn size(folder: &Path) -> Result<u64> {
    let entries = std::fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
