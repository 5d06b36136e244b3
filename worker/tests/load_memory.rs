//! Loading holds the finished model and a few megabytes, whatever the checkpoint's size. One test, so that the process
//! it measures does nothing else.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod written_model;

use weft_worker::model::loader::{LoadOptions, load};
use weft_worker::model::{Preset, Spec};

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn loading_in_4_bits_peaks_near_the_finished_model() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        vocab: 8192,
        hidden: 512,
        ffn: 1536,
        layers: 6,
        heads: 8,
        kv_heads: 4,
        head_dim: 64,
        ..Preset::Llama3_2_1b.spec()
    };
    let file_bytes = written_model::write(folder.path(), &spec);
    let options = LoadOptions {
        load_in_4bit: true,
        digest: None,
    };
    // Threads and their buffers exist before the measurement, as they do in a worker.
    rayon::broadcast(|_| ());
    let before = resident_bytes();
    // Resets the peak to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let model = load(folder.path(), &options, &|_| {}).unwrap();
    let peak = model.report.peak_resident_bytes.unwrap() - before;
    let weights = model.report.weight_bytes;
    println!(
        "file {} MiB, weights {} MiB, peak while loading {} MiB",
        file_bytes / MEBIBYTE,
        weights / MEBIBYTE,
        peak / MEBIBYTE
    );
    assert!(weights < file_bytes / 2, "the linears are in 4 bits");
    // A thread's piece is 1.5 MiB in both forms, its chunk of the digest 1 MiB.
    let buffers = 4 * MEBIBYTE * rayon::current_num_threads() as u64;
    assert!(
        peak <= weights + buffers + 4 * MEBIBYTE,
        "{peak} bytes at the peak for {weights} bytes of weights"
    );
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    1024 * line
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .trim()
        .parse::<u64>()
        .unwrap()
}
