//! The script for Slurm, run for real where `srun` and `scontrol` only start what they are told to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use weft_tests::files;
use weft_tests::process::{DEADLINE, binary, send};
use weft_tests::quickstart::Quickstart;
use weft_tests::repository;

use crate::tools;

/// Starts the command once a task, on this machine.
const SRUN: &str = r#"#!/usr/bin/env bash
while [ "${1#-}" != "$1" ]; do shift; done
for task in $(seq "$SLURM_NTASKS"); do WEFT_CACHE=$WEFT_CACHE-$task "$@" & done
wait
"#;

/// Names this machine; remembers what else it is asked for.
const SCONTROL: &str = r#"#!/usr/bin/env bash
if [ "$1 $2" = "show hostnames" ]; then echo 127.0.0.1; else echo "$@" >>"$SCONTROL_ASKED"; fi
"#;

fn script() -> PathBuf {
    repository().join("deploy/slurm/weft.sbatch")
}

/// The script as Slurm starts it, with two tasks, from `quickstart`'s folder into its output `out`.
fn sbatch(quickstart: &Quickstart, sets: &[&str]) -> Command {
    let folder = quickstart.folder();
    let stubs = folder.join("stubs");
    fs::create_dir_all(&stubs).unwrap();
    for (name, text) in [("srun", SRUN), ("scontrol", SCONTROL)] {
        let path = stubs.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .arg(script())
        .args([Quickstart::recipe(), quickstart.output("out")])
        .args(sets.iter().flat_map(|set| ["--set", set]))
        .env("PATH", format!("{}:{path}", stubs.display()))
        .env("WEFT", binary())
        .env("WEFT_WORKER_ARGS", "--threads 1 --device cpu")
        .env("WEFT_CACHE", folder.join("cache"))
        .env("WEFT_LOG", "info,weft_coordinator=debug")
        .env("SCONTROL_ASKED", asked(folder))
        .env("SLURM_JOB_ID", "4711")
        .env("SLURM_JOB_NODELIST", "node[1-2]")
        .env("SLURM_NTASKS", "2")
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn asked(folder: &Path) -> PathBuf {
    folder.join("scontrol-asked")
}

#[test]
fn the_script_is_clean() {
    let bash = Command::new("bash")
        .arg("-n")
        .arg(script())
        .output()
        .unwrap();
    tools::succeeded(&bash);
    if let Some(mut shellcheck) = tools::program("shellcheck") {
        tools::succeeded(&shellcheck.arg(script()).output().unwrap());
    }
}

#[test]
fn without_a_recipe_it_tells_its_usage() {
    let bash = Command::new("bash").arg(script()).output().unwrap();
    assert_eq!(bash.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bash.stderr).contains("usage: sbatch"));
}

#[test]
fn a_job_of_two_tasks_comes_to_what_a_run_comes_to() {
    let quickstart = Quickstart::new();
    let sets = ["training.max_steps=6", "training.save_steps=2"];
    let output = sbatch(&quickstart, &sets).output().unwrap();
    let said = tools::succeeded(&output);
    assert!(said.contains("adapter in"), "{said}");
    assert!(said.contains("world=2"), "{said}");
    assert!(
        !asked(quickstart.folder()).exists(),
        "it is not put back into the line"
    );
    quickstart.run("run", 1).finish().succeeded();
    assert_eq!(quickstart.adapter("out"), quickstart.adapter("run"));
}

#[test]
fn a_job_whose_time_is_up_is_put_back_into_the_line_and_goes_on() {
    let quickstart = Quickstart::new().set("training.max_steps=20");
    let sets = ["training.max_steps=20", "training.save_steps=2"];
    let mut first = sbatch(&quickstart, &sets)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Until it trains.
    let ledger = quickstart.output("out").join("ledger");
    let begun = Instant::now();
    let lines = || {
        let files = files::listing(&ledger).into_iter();
        let texts = files.map(|file| fs::read_to_string(file).unwrap_or_default());
        texts.map(|text| text.lines().count()).sum::<usize>()
    };
    while lines() < 4 {
        assert!(begun.elapsed() < DEADLINE, "no step was committed");
        std::thread::yield_now();
    }
    send(first.id(), "USR1");
    assert_eq!(first.wait().unwrap().code(), Some(30));
    let wanted = fs::read_to_string(asked(quickstart.folder())).unwrap();
    assert_eq!(wanted, "requeue 4711\n");
    let second = sbatch(&quickstart, &sets)
        .env("SLURM_RESTART_COUNT", "1")
        .output();
    let said = tools::succeeded(&second.unwrap());
    assert!(
        !said.contains("step committed step=0 "),
        "it goes on where the first one stopped: {said}"
    );
    quickstart.run("run", 1).finish().succeeded();
    assert_eq!(quickstart.adapter("out"), quickstart.adapter("run"));
}
