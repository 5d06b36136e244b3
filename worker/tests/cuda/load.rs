//! How fast a checkpoint of Llama-3-8B's layers is loaded, in host memory and onto a GPU.
//!
//! Writes the checkpoint into the folder for temporary files: `WEFT_TEST_LOAD_LAYERS=32` is Llama-3-8B with a vocabulary of
//! 32000, 14.5 GB. `--nocapture` shows the figures.

use std::time::Instant;

use weft_worker::model::loader::{LoadOptions, load, load_onto, model_digest};
use weft_worker::model::{Preset, Spec};
use weft_worker::ops::Ops as _;
use weft_worker::ops::cuda::CudaOptions;

use crate::support::opened;
use crate::written_model;

#[test]
fn a_checkpoint_as_large_as_asked_for_is_loaded() {
    let Some(layers) = std::env::var_os("WEFT_TEST_LOAD_LAYERS") else {
        println!("NOT RUN: set WEFT_TEST_LOAD_LAYERS to the layers to write and load, 436 MB each");
        return;
    };
    let layers: usize = layers.to_str().unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        vocab: 32_000,
        layers,
        ..Preset::Llama3_8b.spec()
    };
    let bytes = written_model::write(folder.path(), &spec) as f64;
    let path = folder.path();
    let told = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        println!("{what}: {seconds:.2} s, {:.2} GB/s", bytes / 1e9 / seconds);
    };
    let start = Instant::now();
    let digest = model_digest(path).unwrap();
    told("digest alone", start);
    let options = |digest| LoadOptions {
        load_in_4bit: true,
        digest,
    };
    let start = Instant::now();
    drop(load(path, &options(Some(digest)), &|_| ()).unwrap());
    told("host, digest known", start);
    let start = Instant::now();
    drop(load(path, &options(None), &|_| ()).unwrap());
    told("host, with digest", start);
    for known in [Some(digest), None] {
        let Some(cuda) = opened(CudaOptions {
            ordinal: 0,
            head_dim: spec.head_dim,
            rank: 16,
            half: None,
            lean: false,
            memory_limit: None,
        }) else {
            return;
        };
        let before = cuda.used_memory().unwrap();
        let start = Instant::now();
        let placed = load_onto(cuda, path, &options(known), &|_| ()).unwrap();
        placed.model.ops().health().unwrap();
        match known {
            Some(_) => told("GPU, digest known", start),
            None => told("GPU, with digest", start),
        }
        let after = placed.model.ops().used_memory().unwrap();
        println!(
            "{} MiB of the GPU's memory for {} MiB of weights",
            (after - before) >> 20,
            placed.report.weight_bytes >> 20
        );
        assert_eq!(placed.digest, digest);
    }
}
