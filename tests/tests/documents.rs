//! What the documents say works: their commands are run, their tables compared with the binary.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use weft_tests::process::{Running, Weft};
use weft_tests::quickstart::Quickstart;
use weft_tests::repository;

/// Commands that other parts of CI run, or that cannot run within a test, each with the reason.
const NOT_RUN_HERE: [(&str, &str); 11] = [
    ("cargo test --workspace", "this is what runs now"),
    ("cargo build", "this test was built"),
    (".ci/run", "it runs this test"),
    ("cargo install", "it changes the machine"),
    ("examples/smollm2/run.sh", "it downloads a model"),
    (
        "weft push",
        "it needs an account; the tests in `push.rs` run it against a stand-in",
    ),
    ("kubectl", "it needs a cluster"),
    ("podman", "it needs a container engine and downloads images"),
    ("systemctl", "it changes the machine"),
    ("cp deploy/systemd/", "it changes the machine"),
    (
        "sbatch",
        "it needs a cluster; the script is run by the tests in `deploy/slurm.rs`",
    ),
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

/// A command of `weft`, whichever way it starts it, as a shell takes it.
fn weft_command(command: &str) -> Option<String> {
    let starts = ["cargo run --release -- ", "weft "];
    let rest = starts.iter().find_map(|start| command.strip_prefix(start));
    rest.map(|rest| format!("weft {rest}"))
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
        let mut shell = Shell::new(&quickstart, &folder);
        for command in commands(&document) {
            if NOT_RUN_HERE
                .iter()
                .any(|(start, _)| command.starts_with(start))
            {
                continue;
            }
            let weft = weft_command(&command).unwrap_or_else(|| {
                panic!("{}: `{command}` is not a weft command", document.display())
            });
            shell.run(&weft, &document);
            run += 1;
        }
    }
    assert!(
        run >= 5,
        "only {run} commands were found; is the fence still `sh`?"
    );
}

/// The shell that the commands of one document are typed into.
struct Shell<'a> {
    quickstart: &'a Quickstart,
    folder: &'a Path,
    /// What a `&` left running; the coordinators first.
    background: Vec<Running>,
    /// Of the coordinator that was started here.
    coordinator: Option<String>,
}

impl<'a> Shell<'a> {
    fn new(quickstart: &'a Quickstart, folder: &'a Path) -> Self {
        Self {
            quickstart,
            folder,
            background: Vec::new(),
            coordinator: None,
        }
    }

    fn weft(&self, command: &str) -> Weft {
        let weft = Weft::in_shell(&self.quickstart.folder().join("cache"), command);
        let weft = weft.in_folder(self.folder);
        match &self.coordinator {
            Some(url) => weft.env("WEFT_COORDINATOR", url),
            None => weft,
        }
    }

    fn run(&mut self, command: &str, document: &Path) {
        if let Some(command) = command.strip_suffix('&') {
            return self.start(command);
        }
        let trains = ["weft run", "weft submit"]
            .iter()
            .any(|start| command.starts_with(start));
        let shortened = if trains {
            "--set training.max_steps=4"
        } else {
            ""
        };
        let again = command.starts_with("weft run") && !command.contains("--resume");
        let overwrite = if again { "--overwrite" } else { "" };
        let finished = self
            .weft(&format!("{command} {shortened} {overwrite}"))
            .finish();
        assert_eq!(
            finished.code,
            Some(0),
            "{}: {command}:\n{}",
            document.display(),
            finished.text
        );
    }

    /// Leaves a command running until the end of the document.
    fn start(&mut self, command: &str) {
        if !command.starts_with("weft coordinator") {
            self.background.push(self.weft(command).start());
            return;
        }
        // The documented port may be in use.
        let mut coordinator = self
            .weft(&format!("{command} --listen 127.0.0.1:0"))
            .start();
        let line = coordinator.wait_for("listening on http://");
        self.coordinator = line.rsplit(' ').next().map(str::to_owned);
        self.background.push(coordinator);
    }
}
