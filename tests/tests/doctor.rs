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

#[test]
fn a_peer_that_listens_is_reached_and_one_that_does_not_is_an_error() {
    let cache = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let finished = doctor(cache.path(), &["--reach", &address]).finish();
    let report: Value = serde_json::from_str(&finished.succeeded().printed).unwrap();
    assert!(report["reached"][0]["millis"].is_number(), "{report}");
    assert!(report["network"]["interfaces"].is_array(), "{report}");
    drop(listener);

    let finished = Weft::new(cache.path(), ["doctor", "--reach", &address]).finish();
    finished.ended_with(13, &[&address, "nobody listens"]);
}

#[test]
fn a_choice_of_interfaces_that_leaves_none_is_warned_of() {
    let cache = tempfile::tempdir().unwrap();
    let finished = doctor(cache.path(), &[])
        .env("NCCL_SOCKET_IFNAME", "no-such-interface")
        .finish();
    finished.ended_with(
        0,
        &["NCCL_SOCKET_IFNAME=no-such-interface names no interface"],
    );
}
