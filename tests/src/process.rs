//! The `weft` binary as a process: started, watched line by line, interrupted, killed, waited for.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::files;

/// No wait in these tests is longer; a process that takes more hangs.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// The binary that `WEFT_BINARY` names, else the one in the profile that the test itself was built in. `cargo test
/// --workspace` has built that; where it is older than the sources, it is built once more.
///
/// # Panics
/// The build fails.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("WEFT_BINARY") {
            return PathBuf::from(given);
        }
        let test = std::env::current_exe().expect("a running test knows its own path");
        let profile = test
            .ancestors()
            .nth(2)
            .expect("cargo puts tests in <target>/<profile>/deps");
        let binary = profile.join("weft");
        let built = modified(&binary);
        if built.is_none() || built < newest_source() {
            build(profile);
        }
        binary
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata()
        .and_then(|metadata| metadata.modified())
        .ok()
}

/// When the youngest of the files that the binary is made from was written.
fn newest_source() -> Option<SystemTime> {
    let root = crate::repository();
    let crates = ["cli", "common", "coordinator", "proto", "worker"];
    let sources = crates
        .into_iter()
        .flat_map(|name| files::listing(&root.join(name).join("src")));
    let manifests = crates
        .into_iter()
        .map(|name| root.join(name).join("Cargo.toml"));
    let embedded = ["proto/weft", "worker/kernels"];
    let embedded = embedded
        .into_iter()
        .flat_map(|folder| files::listing(&root.join(folder)));
    let all = sources
        .chain(manifests)
        .chain(embedded)
        .chain([root.join("Cargo.lock")]);
    all.filter_map(|path| modified(&path)).max()
}

fn build(profile: &Path) {
    let target = profile
        .parent()
        .expect("a profile's folder lies in the target folder");
    let name = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo says of the package that is tested would have build scripts run again that look at it.
    for (name, _) in std::env::vars_os() {
        if [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_CRATE_",
            "CARGO_BIN_",
        ]
        .iter()
        .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            "weft",
            // With a test beside it, cargo resolves features as for tests: what they were built from is not built again.
            "--test",
            "versions",
            "--profile",
            name,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(crate::repository())
        .status()
        .expect("cargo, which built this test, can be started");
    assert!(status.success(), "building the weft binary failed");
}

/// A `weft` command line about to be started.
#[derive(Debug)]
pub struct Weft(Command);

impl Weft {
    /// `weft` with `arguments`, caching below `cache`, without colours or a terminal.
    pub fn new<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(cache: &Path, arguments: I) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments);
        Self::of(command, cache)
    }

    fn of(mut command: Command, cache: &Path) -> Self {
        command
            .env("WEFT_CACHE", cache)
            .env_remove("WEFT_LOG")
            .env_remove("WEFT_COORDINATOR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command)
    }

    /// As [`new`](Self::new), from a command line that a shell takes apart: `weft run recipe.yaml --set "a=$PWD/b"`.
    ///
    /// # Panics
    /// The search path is none.
    #[must_use]
    pub fn in_shell(cache: &Path, command: &str) -> Self {
        let folder = binary().parent().map(Path::to_owned);
        let known = std::env::var_os("PATH").unwrap_or_default();
        let search = folder.into_iter().chain(std::env::split_paths(&known));
        let search = std::env::join_paths(search).expect("no folder of it has a colon");
        // The process is then weft itself and no shell, so that it can be ended.
        let line = format!("exec {command}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).env("PATH", search);
        Self::of(shell, cache)
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.0.args(arguments);
        self
    }

    /// Appends an option whose value is a path.
    #[must_use]
    pub fn arg_path(self, option: &str, path: &Path) -> Self {
        self.args([OsStr::new(option), path.as_os_str()])
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(key, value);
        self
    }

    /// Runs in a network namespace, which takes root.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", namespace])
            .arg(self.0.get_program())
            .args(self.0.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (key, value) in self.0.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Self(command)
    }

    /// Lets nobody read what it prints, on either stream.
    ///
    /// # Panics
    /// The system gives no pipe.
    #[must_use]
    pub fn unread(mut self) -> Self {
        let closed = || {
            let (reader, writer) = std::io::pipe().expect("the system gives a pipe");
            drop(reader);
            writer
        };
        self.0.stdout(closed()).stderr(closed());
        self
    }

    /// Runs in `folder`.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Starts the process.
    ///
    /// # Panics
    /// The system cannot start it.
    #[must_use]
    pub fn start(mut self) -> Running {
        let mut child = self.0.spawn().expect("the binary was just built");
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().map(|stream| Box::new(stream) as _);
        let stderr = child.stderr.take().map(|stream| Box::new(stream) as _);
        let streams: [(Option<Box<dyn Read + Send>>, bool); 2] = [(stdout, true), (stderr, false)];
        for (stream, printed) in streams {
            let Some(stream) = stream else {
                continue;
            };
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let line = Line {
                        at: Instant::now(),
                        text: line,
                        printed,
                    };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Running {
            child,
            lines,
            seen: Vec::new(),
            printed: Vec::new(),
        }
    }

    /// Runs the process to its end.
    #[must_use]
    pub fn finish(self) -> Finished {
        self.start().finish()
    }
}

/// A running `weft`; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<Line>,
    seen: Vec<String>,
    printed: Vec<String>,
}

/// A line that a process said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Without its end.
    pub text: String,
    /// Whether on standard output.
    pub printed: bool,
}

impl Running {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads on until a line contains `text`, and gives that line.
    ///
    /// # Panics
    /// The process ends or the deadline passes first.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_line(text).text
    }

    /// As [`wait_for`](Self::wait_for), with the time.
    ///
    /// # Panics
    /// The process ends or the deadline passes first.
    pub fn wait_for_line(&mut self, text: &str) -> Line {
        let end = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.note(&line);
                    if line.text.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "no `{text}` ({error}) in what weft said:\n{}",
                    self.seen.join("\n")
                ),
            }
        }
    }

    /// As [`wait_for`](Self::wait_for), but a line that was read before counts too: standard output and standard error are
    /// two pipes, and lines of one come in no order with those of the other.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub fn wait_until_said(&mut self, text: &str) {
        if !self.said().iter().any(|line| line.contains(text)) {
            self.wait_for(text);
        }
    }

    /// All that it has said up to now.
    pub fn said(&mut self) -> &[String] {
        while let Ok(line) = self.lines.try_recv() {
            self.note(&line);
        }
        &self.seen
    }

    fn note(&mut self, line: &Line) {
        self.seen.push(line.text.clone());
        if line.printed {
            self.printed.push(line.text.clone());
        }
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid())
    }

    /// Stops it in its tracks.
    pub fn stop(&self) {
        send(self.pid(), "STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        send(self.pid(), "CONT");
    }

    /// Sends what a scheduler sends that wants the machine back.
    pub fn terminate(&self) {
        send(self.pid(), "TERM");
    }

    /// Sends what Ctrl-C sends.
    pub fn interrupt(&self) {
        send(self.pid(), "INT");
    }

    /// Ends the process without a chance to clean up.
    pub fn kill(&self) {
        send(self.pid(), "KILL");
    }

    /// Process ids of the children that are alive.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// The deadline passes first.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        self.await_end();
        Finished {
            code: self.exit_code(),
            text: self.seen.join("\n"),
            printed: self.printed.join("\n"),
        }
    }

    /// Its exit code, once it has ended; `None` when a signal ended it.
    ///
    /// # Panics
    /// The system does not tell.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.child.wait();
        let status = status.expect("a started process can be waited for");
        status.code()
    }

    /// Waits for the end; what it said stays to be asked for.
    ///
    /// # Panics
    /// The deadline passes first.
    pub fn await_end(&mut self) {
        let end = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.note(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("weft hangs after saying:\n{}", self.seen.join("\n"))
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `weft` that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything it said on both streams.
    pub text: String,
    /// What it said on standard output.
    pub printed: String,
}

impl Finished {
    /// Demands success.
    ///
    /// # Panics
    /// The exit code is not 0.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        self.ended_with(0, &[])
    }

    /// Demands an exit code and that each of `texts` was said.
    ///
    /// # Panics
    /// One of them does not hold.
    #[track_caller]
    pub fn ended_with(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "weft said:\n{}", self.text);
        for text in texts {
            assert!(
                self.text.contains(text),
                "`{text}` is missing in what weft said:\n{}",
                self.text
            );
        }
        self
    }
}

/// Sends a signal (`INT`, `KILL`, …); a process that is gone already is fine.
///
/// # Panics
/// There is no shell.
pub fn send(pid: u32, signal: &str) {
    let kill = format!("kill -{signal} {pid}");
    let shell = Command::new("sh")
        .args(["-c", &kill])
        .stderr(Stdio::null())
        .status();
    shell.expect("every Unix has a shell");
}

/// Process ids of the living children of `parent`.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let mut found = Vec::new();
    // Each thread lists the children that it started.
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.map(|task| task.path().join("children"));
    for list in lists.chain([PathBuf::from(path)]) {
        let text = std::fs::read_to_string(list).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|pid| is_alive(*pid));
    found
}

/// Whether a process exists and has not ended.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}
