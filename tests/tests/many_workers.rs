//! The script that looks at many GPUs, on the CPU: all of it but NCCL and speed.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::process::Command;

use weft_tests::process::binary;
use weft_tests::repository;

/// Runs the script; its exit code and what it printed.
fn many(arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .arg(repository().join("tests/gpus/many.sh"))
        .arg(binary())
        .arg(repository().join("examples/quickstart/recipe.yaml"))
        .arg(folder.path().join("out"))
        .args(["--device", "cpu"])
        .args(arguments)
        .env("WEFT_CACHE", folder.path().join("cache"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn many_workers_leave_the_same_bits_and_outlive_deaths_and_joins() {
    let parts = ["bits", "death", "join", "reduce"];
    let (code, said) = many(
        &[
            &["--workers", "1,2", "--deaths", "2", "--steps", "8"][..],
            &parts,
        ]
        .concat(),
    );
    // 1 where this machine was too slow for a bar: the bars are for GPUs.
    assert!(matches!(code, Some(0 | 1)), "{said}");
    assert!(!said.contains("FAILED"), "{said}");
    for part in [
        ": 1 SHA-256",
        "killed in the all-reduce, 1 times",
        "killed at any moment, 1 times",
        "committed twice or lost: none",
        "a worker joins 1",
        "members    2",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}

#[test]
fn what_there_is_not_is_refused_with_what_there_is() {
    for (arguments, part) in [
        (&["bit"][..], "bits, death, join"),
        (&["bits", "--workers", "two"], "as in 1,2,4"),
    ] {
        let (code, said) = many(arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
}
