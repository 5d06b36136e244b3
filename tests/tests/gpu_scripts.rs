//! Scripts that need a GPU say loudly that there is none.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use weft_tests::repository;

/// Each with as many arguments as it asks for. None is looked at before the GPU is.
const SCRIPTS: [(&str, usize); 6] = [
    ("gpus/many.sh", 3),
    ("peers/side_by_side.sh", 4),
    ("peers/small_models.sh", 4),
    ("peers/seed_job.sh", 6),
    ("peft/on_gpu.sh", 6),
    ("peft/sanitizer.sh", 2),
];

fn bash(script: &str, arguments: usize) -> Command {
    // A folder that exists, whatever an argument stands for.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut bash = Command::new("bash");
    bash.arg(repository().join("tests").join(script))
        .args(vec![folder; arguments]);
    bash
}

fn has_gpu() -> bool {
    Command::new("nvidia-smi").output().is_ok()
}

#[test]
fn scripts_for_a_gpu_end_with_3_where_there_is_none() {
    if has_gpu() {
        println!("NOT RUN: nvidia-smi is here, and the scripts would measure");
        return;
    }
    for (script, arguments) in SCRIPTS {
        let run = bash(script, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{script}: {said}");
        assert!(
            said.contains("NOT RUN: THERE IS NO GPU HERE"),
            "{script}: {said}"
        );
    }
}

#[test]
fn scripts_for_a_gpu_tell_their_usage() {
    for (script, _) in SCRIPTS {
        let run = bash(script, 0).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{script}: {said}");
        assert!(said.contains("usage: "), "{script}: {said}");
        // What stands at the head, and no comment of the code.
        let code = fs::read_to_string(repository().join("tests").join(script)).unwrap();
        let head = code
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('#'));
        assert_eq!(said.lines().count(), head.count(), "{script}: {said}");
    }
}
