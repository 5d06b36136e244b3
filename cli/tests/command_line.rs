//! The command line itself: help, version, usage.

use std::io::PipeWriter;
use std::process::{Command, Output, Stdio};

fn weft(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command
        .args(arguments)
        .output()
        .expect("cargo built the binary for this test")
}

#[test]
fn the_version_is_the_crates() {
    let output = weft(&["version"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), format!("weft {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    for arguments in [
        &["weave"][..],
        &["run"],
        &["run", "recipe.yaml", "--resume", "--overwrite"],
    ] {
        let output = weft(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn every_subcommand_explains_itself() {
    for subcommand in [
        "run",
        "plan",
        "data preview",
        "data prepare",
        "coordinator",
        "worker",
        "schema",
        "generate",
        "export",
        "audit",
        "submit",
        "jobs",
        "status",
        "watch",
        "logs",
        "scale",
        "cancel",
        "workers",
        "drain",
    ] {
        let mut arguments: Vec<&str> = subcommand.split(' ').collect();
        arguments.push("--help");
        let output = weft(&arguments);
        assert!(output.status.success(), "{subcommand}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("Usage:"),
            "{subcommand}"
        );
    }
}

#[test]
fn a_recipe_that_is_not_there_is_named() {
    let output = weft(&["plan", "no/such/recipe.yaml"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/recipe.yaml"));
}

/// A pipe that nobody reads from any more.
fn closed_pipe() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("the system gives a pipe");
    drop(reader);
    writer
}

fn weft_into(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).stdout(stdout).stderr(stderr);
    let child = command
        .spawn()
        .expect("cargo built the binary for this test");
    child
        .wait_with_output()
        .expect("a started process can be waited for")
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    for arguments in [
        &["version"][..],
        &["schema"],
        &["schema", "--markdown"],
        &["plan", "--help"],
    ] {
        let output = weft_into(arguments, closed_pipe(), Stdio::piped());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*said),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn an_error_that_nobody_reads_keeps_its_code() {
    let arguments = ["plan", "no/such/recipe.yaml"];
    let output = weft_into(&arguments, Stdio::piped(), closed_pipe());
    assert_eq!(output.status.code(), Some(10));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_a_full_disk_refuses_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = weft_into(&["schema"], full.expect("Linux has it"), Stdio::piped());
    assert_eq!(output.status.code(), Some(13));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}
