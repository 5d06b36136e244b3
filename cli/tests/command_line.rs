//! The command line itself: help, version, usage.

use std::process::{Command, Output};

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
