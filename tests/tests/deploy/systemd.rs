//! The units of systemd.

use std::fs;
use std::path::PathBuf;

use weft_tests::process::{Weft, binary};
use weft_tests::repository;

use crate::tools;

const UNITS: [&str; 2] = ["weft-coordinator.service", "weft-worker@.service"];

fn unit(name: &str) -> String {
    fs::read_to_string(repository().join("deploy/systemd").join(name)).unwrap()
}

/// All values of a key.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    let of_key = lines.filter(|(found, _)| *found == key);
    of_key.map(|(_, value)| value).collect()
}

#[test]
fn systemd_understands_the_units() {
    let Some(mut analyze) = tools::program("systemd-analyze") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = UNITS
        .iter()
        .map(|name| {
            // It looks for the program, too.
            let text = unit(name).replace("/usr/local/bin/weft", &binary().to_string_lossy());
            let path = folder.path().join(name.replace('@', "@0"));
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let said = tools::succeeded(&analyze.arg("verify").args(&paths).output().unwrap());
    let about_ours = said.lines().filter(|line| line.contains("weft"));
    assert_eq!(about_ours.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn their_commands_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    for name in UNITS {
        let text = unit(name);
        let command = values(&text, "ExecStart")[0]
            .replace("/usr/local/bin/weft", "weft")
            .replace("%S", &place)
            .replace("%C", &place)
            .replace("%i", "0")
            .replace("${WEFT_LISTEN}", "127.0.0.1:0")
            .replace(['$'], "")
            .replace("WEFT_COORDINATOR_ARGS", "--help")
            .replace("WEFT_WORKER_ARGS", "--help");
        assert!(command.contains("--help"), "{command}");
        Weft::in_shell(folder.path(), &command).finish().succeeded();
    }
}

#[test]
fn a_unit_gives_up_where_a_restart_makes_no_sense_and_stops_in_peace() {
    for name in UNITS {
        let text = unit(name);
        assert_eq!(values(&text, "Restart"), ["on-failure"]);
        let given_up = values(&text, "RestartPreventExitStatus")[0];
        for code in ["2", "21"] {
            assert!(given_up.split(' ').any(|word| word == code), "{name}");
        }
        for temporary in ["1", "13", "20", "22"] {
            assert!(!given_up.split(' ').any(|word| word == temporary), "{name}");
        }
        assert_eq!(values(&text, "KillSignal"), ["SIGTERM"]);
    }
    // A worker takes 50 s at most to be let go.
    let worker = unit(UNITS[1]);
    let within: u32 = values(&worker, "TimeoutStopSec")[0].parse().unwrap();
    assert!(within > 50);
}
