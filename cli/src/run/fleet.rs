//! The worker processes of one machine: started from this same binary, never outliving it, each with a log of its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::output::memory::Resident;

/// Lines of a dead worker's log that are shown.
const TAIL_LINES: usize = 12;

/// What to start.
#[derive(Debug)]
pub(super) struct FleetSpec<'a> {
    /// `http://host:port` of the coordinator.
    pub(super) coordinator: &'a str,
    /// How many.
    pub(super) workers: u32,
    /// Compute threads of each.
    pub(super) threads: usize,
    /// Folder of the logs.
    pub(super) logs: &'a Path,
    /// Folder of prepared datasets.
    pub(super) cache: &'a Path,
}

/// The running worker processes.
#[derive(Debug)]
pub(super) struct Fleet(Vec<Member>);

#[derive(Debug)]
struct Member {
    number: u32,
    child: Child,
    log: PathBuf,
    /// A worker ends when its standard input does: however this process ends, the system closes it.
    _alive: Option<ChildStdin>,
}

/// A worker process that ended.
#[derive(Debug)]
pub(super) struct Exited {
    number: u32,
    pid: Option<u32>,
    status: io::Result<ExitStatus>,
    log: PathBuf,
}

impl Fleet {
    /// Starts all workers.
    pub(super) fn spawn(spec: &FleetSpec<'_>) -> io::Result<Self> {
        (1..=spec.workers)
            .map(|number| Member::spawn(spec, number))
            .collect::<io::Result<Vec<_>>>()
            .map(Self)
    }

    /// No worker process: workers come by themselves.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Resident memory of all workers together, now and at its highest; `None` where there are none here.
    pub(super) fn memory(&self) -> Option<Resident> {
        let each = self
            .0
            .iter()
            .filter_map(|member| Resident::of(member.child.id()?));
        each.reduce(|sum, one| Resident {
            current_bytes: sum.current_bytes + one.current_bytes,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
        })
    }

    /// Waits until a worker ends; forever where there is none.
    pub(super) async fn next_exit(&mut self) -> Exited {
        let exits: FuturesUnordered<_> = self.0.iter_mut().map(Member::exit).collect();
        let first = exits.into_future().await.0;
        match first {
            Some(exited) => exited,
            None => std::future::pending().await,
        }
    }

    /// Waits for all workers to end by themselves, and ends those that take longer than `grace`. Gives the first that
    /// ended badly.
    pub(super) async fn stop(mut self, grace: Duration) -> Option<Exited> {
        let all = async {
            let mut bad = None;
            for member in &mut self.0 {
                let exited = member.exit().await;
                bad = bad.or((!exited.is_success()).then_some(exited));
            }
            bad
        };
        if let Ok(bad) = timeout(grace, all).await {
            return bad;
        }
        for member in &mut self.0 {
            // One that ended meanwhile cannot be killed, which is fine.
            let _ = member.child.kill().await;
        }
        None
    }
}

impl Exited {
    fn is_success(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }
}

impl Member {
    fn spawn(spec: &FleetSpec<'_>, number: u32) -> io::Result<Self> {
        let log = spec.logs.join(format!("worker-{number}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([
                "worker",
                "--until-stdin-closes",
                "--coordinator",
                spec.coordinator,
            ])
            .args(["--threads", &spec.threads.to_string()])
            .arg("--cache")
            .arg(spec.cache)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C in a terminal reaches the whole group; workers are told by the coordinator instead.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        Ok(Self {
            number,
            _alive: child.stdin.take(),
            child,
            log,
        })
    }

    async fn exit(&mut self) -> Exited {
        let pid = self.child.id();
        Exited {
            number: self.number,
            pid,
            status: self.child.wait().await,
            log: self.log.clone(),
        }
    }
}

impl std::fmt::Display for Exited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pid = self
            .pid
            .map(|pid| format!(" (process {pid})"))
            .unwrap_or_default();
        match &self.status {
            Ok(status) => write!(f, "worker {}{pid} ended with {status}", self.number)?,
            Err(error) => write!(
                f,
                "worker {}{pid} cannot be waited for: {error}",
                self.number
            )?,
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if tail.is_empty() {
            return write!(f, "; it left no log");
        }
        write!(f, "; the end of {}:", self.log.display())?;
        tail.iter()
            .try_for_each(|line| write!(f, "\n  worker {} | {line}", self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_worker_is_reported_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("worker-2.log");
        let text: String = (0..40).map(|line| format!("line {line}\n")).collect();
        fs::write(&log, text).unwrap();
        let exited = Exited {
            number: 2,
            pid: Some(77),
            status: Ok(ExitStatus::default()),
            log,
        };

        let report = exited.to_string();

        assert!(
            report.starts_with("worker 2 (process 77) ended with exit status: 0"),
            "{report}"
        );
        assert!(
            report.ends_with("worker 2 | line 39") && !report.contains("line 27\n"),
            "{report}"
        );
    }
}
