//! What the documents say works: their commands are run, their tables compared with the binary.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use weft_tests::process::Weft;
use weft_tests::quickstart::Quickstart;
use weft_tests::repository;

/// Commands that other parts of CI run, or that cannot run within a test, each with the reason.
const NOT_RUN_HERE: [(&str, &str); 5] = [
    ("cargo test --workspace", "this is what runs now"),
    ("cargo build", "this test was built"),
    (".ci/run", "it runs this test"),
    ("cargo install", "it changes the machine"),
    ("examples/smollm2/run.sh", "it downloads a model"),
];

fn documents() -> Vec<PathBuf> {
    let root = repository();
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let docs = fs::read_dir(root.join("docs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    found.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    found.sort();
    found
}

/// The commands in the fenced `sh` blocks, with continued lines joined.
fn commands(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let mut commands = Vec::new();
    let mut inside = false;
    for line in text.replace("\\\n", " ").lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            "" => {}
            line if inside && !line.starts_with('#') => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

/// The arguments of `weft`, whichever way the command starts it.
fn weft_arguments(command: &str) -> Option<Vec<String>> {
    let starts = ["cargo run --release -- ", "weft "];
    starts
        .iter()
        .find_map(|start| command.strip_prefix(start))
        .map(words)
}

/// Splits at spaces outside of double quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn every_command_in_the_documents_works() {
    let quickstart = Quickstart::new();
    // Documents show paths as seen from the repository; results must not land there.
    let folder = quickstart.folder().join("checkout");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(repository().join("examples"), folder.join("examples")).unwrap();
    let mut run = 0;
    for document in documents() {
        for command in commands(&document) {
            if NOT_RUN_HERE
                .iter()
                .any(|(start, _)| command.starts_with(start))
            {
                continue;
            }
            let arguments = weft_arguments(&command);
            let arguments = arguments.unwrap_or_else(|| {
                panic!("{}: `{command}` is not a weft command", document.display())
            });
            run_documented(&quickstart, &folder, &arguments, &document);
            run += 1;
        }
    }
    assert!(
        run >= 5,
        "only {run} commands were found; is the fence still `sh`?"
    );
}

fn run_documented(quickstart: &Quickstart, folder: &Path, arguments: &[String], document: &Path) {
    let storage = format!("file://{}", quickstart.folder().join("storage").display());
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| argument.replace("file:///tmp/weft-storage", &storage))
        .collect();
    let mut weft = Weft::new(&quickstart.folder().join("cache"), &arguments).in_folder(folder);
    if arguments[0] == "run" {
        weft = weft.args(["--set", "training.max_steps=4"]);
        if !arguments.iter().any(|argument| argument == "--resume") {
            weft = weft.args(["--overwrite"]);
        }
    }
    let finished = weft.finish();
    assert_eq!(
        finished.code,
        Some(0),
        "{}: weft {}:\n{}",
        document.display(),
        arguments.join(" "),
        finished.text
    );
}
