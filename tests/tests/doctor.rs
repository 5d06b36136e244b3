//! `weft doctor` tells what a machine lacks, and compiles kernels without a GPU.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::path::Path;

use serde_json::Value;
use weft_tests::process::Weft;

fn doctor(cache: &Path, arguments: &[&str]) -> Weft {
    Weft::new(cache, ["doctor", "--json"]).args(arguments)
}

#[test]
fn every_library_is_found_or_missing_with_its_remedy() {
    let cache = tempfile::tempdir().unwrap();
    let finished = doctor(cache.path(), &[]).finish();
    let report: Value = serde_json::from_str(&finished.succeeded().text).unwrap();
    let obstacles = report["obstacles"].as_array().unwrap();
    assert_eq!(report["cuda_ready"], obstacles.is_empty(), "{report}");
    for (key, name) in [
        ("driver", "CUDA driver"),
        ("nvrtc", "NVRTC"),
        ("cublas_lt", "cuBLASLt"),
    ] {
        let told = |text: &Value| {
            let text = text.as_str().unwrap();
            text.starts_with(name) && text.contains("install")
        };
        assert!(
            report[key]["path"].is_string() || obstacles.iter().any(told),
            "{report}"
        );
    }
}

#[test]
fn kernels_are_compiled_into_the_cache_once() {
    let Some(folder) = std::env::var_os("WEFT_TEST_NVRTC") else {
        println!("SKIPPED: set WEFT_TEST_NVRTC to a folder with libnvrtc.so.*");
        return;
    };
    let cache = tempfile::tempdir().unwrap();
    let compile = |archs: &str| {
        let finished = doctor(cache.path(), &["--compile-kernels", archs])
            .env("CUDA_HOME", &folder)
            .finish();
        let report: Value = serde_json::from_str(&finished.succeeded().text).unwrap();
        let counts = report["kernels"].as_array().unwrap().iter().map(|arch| {
            (
                arch["files"].as_u64().unwrap(),
                arch["compiled_now"].as_u64().unwrap(),
            )
        });
        counts.collect::<Vec<_>>()
    };
    let first = compile("sm_80");
    assert!(first[0].0 > 0 && first[0].0 == first[0].1, "{first:?}");
    let both = compile("sm_80,sm_75");
    assert_eq!(
        (both[0].1, both[1].1),
        (0, both[1].0),
        "the first is there already: {both:?}"
    );
}

#[test]
fn an_unknown_generation_is_refused_with_those_that_are_known() {
    let cache = tempfile::tempdir().unwrap();
    let finished = doctor(cache.path(), &["--compile-kernels", "hopper"]).finish();
    finished.ended_with(2, &["hopper", "sm_90a"]);
}
