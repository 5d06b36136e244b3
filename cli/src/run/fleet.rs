//! The worker processes of one machine: started from this same binary, never outliving it, each with a log of its own.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::device::Devices;
use crate::exit::Exit;
use crate::output::memory::Resident;

/// Lines of a dead worker's log that are shown.
const TAIL_LINES: usize = 12;

/// A worker that lived longer was not started in vain.
const SHORT_LIFE: Duration = Duration::from_secs(10);

/// Workers that end within a short life, one after another, before the run gives up: whatever ends them is not chance.
const SHORT_LIVES: u32 = 5;

/// The first pause before a worker is replaced; each short life doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What to start.
#[derive(Debug)]
pub(super) struct FleetSpec {
    /// `http://host:port` of the coordinator.
    pub(super) coordinator: String,
    /// How many.
    pub(super) workers: u32,
    /// Compute threads of each.
    pub(super) threads: usize,
    /// The devices that they share.
    pub(super) devices: Devices,
    /// Folder of the logs.
    pub(super) logs: PathBuf,
    /// Folder of prepared datasets.
    pub(super) cache: PathBuf,
}

/// The running worker processes.
#[derive(Debug)]
pub(super) struct Fleet {
    /// What to start; nothing where workers come by themselves.
    spec: Option<FleetSpec>,
    members: Vec<Member>,
    /// Short lives since the last longer one.
    short_lives: u32,
}

#[derive(Debug)]
struct Member {
    number: u32,
    since: Instant,
    child: Child,
    log: PathBuf,
    /// A worker ends when its standard input does: however this process ends, the system closes it.
    _alive: Option<ChildStdin>,
}

/// A worker process that ended.
#[derive(Debug)]
pub(super) struct Exited {
    /// Which worker, from 1.
    pub(super) number: u32,
    pid: Option<u32>,
    lived: Duration,
    status: io::Result<ExitStatus>,
    log: PathBuf,
}

impl Fleet {
    /// Starts all workers.
    pub(super) fn spawn(spec: FleetSpec) -> io::Result<Self> {
        let members = (1..=spec.workers).map(|number| Member::spawn(&spec, number));
        Ok(Self {
            members: members.collect::<io::Result<_>>()?,
            spec: Some(spec),
            short_lives: 0,
        })
    }

    /// No worker process: workers come by themselves.
    pub(super) fn none() -> Self {
        Self {
            spec: None,
            members: Vec::new(),
            short_lives: 0,
        }
    }

    /// Whether a worker that ended is not replaced, because its GPU is sick and others go on.
    pub(super) fn does_without(&self, exited: &Exited) -> bool {
        exited.is_sick() && !self.members.is_empty()
    }

    /// How long to wait before the worker that `exited` is replaced; `None` where that makes no sense any more.
    pub(super) fn pause(&mut self, exited: &Exited) -> Option<Duration> {
        if exited.lived >= SHORT_LIFE {
            self.short_lives = 0;
            return Some(FIRST_PAUSE);
        }
        self.short_lives += 1;
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.short_lives - 1);
        (self.short_lives < SHORT_LIVES).then_some(doubled)
    }

    /// Starts another worker in the place of one that ended.
    pub(super) fn replace(&mut self, number: u32) -> io::Result<()> {
        if let Some(spec) = &self.spec {
            self.members.push(Member::spawn(spec, number)?);
        }
        Ok(())
    }

    /// Resident memory of all workers together, now and at its highest; `None` where there are none here.
    pub(super) fn memory(&self) -> Option<Resident> {
        let each = self
            .members
            .iter()
            .filter_map(|member| Resident::of(member.child.id()?));
        each.reduce(|sum, one| Resident {
            current_bytes: sum.current_bytes + one.current_bytes,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
        })
    }

    /// Waits until a worker ends, and forgets it; forever where there is none.
    pub(super) async fn next_exit(&mut self) -> Exited {
        let exits: FuturesUnordered<_> = self.members.iter_mut().map(Member::exit).collect();
        let first = exits.into_future().await.0;
        match first {
            Some(exited) => {
                self.members.retain(|member| member.number != exited.number);
                exited
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for all workers to end by themselves, and ends those that take longer than `grace`. Gives the first that
    /// ended badly.
    pub(super) async fn stop(mut self, grace: Duration) -> Option<Exited> {
        let all = async {
            let mut bad = None;
            for member in &mut self.members {
                let exited = member.exit().await;
                bad = bad.or((!exited.is_success()).then_some(exited));
            }
            bad
        };
        if let Ok(bad) = timeout(grace, all).await {
            return bad;
        }
        for member in &mut self.members {
            // One that ended meanwhile cannot be killed, which is fine.
            let _ = member.child.kill().await;
        }
        None
    }
}

impl Exited {
    /// Who ended and how, in a few words.
    pub(super) fn headline(&self) -> String {
        let text = self.to_string();
        text.split(';').next().unwrap_or_default().to_owned()
    }

    /// Whether its GPU cannot be relied on.
    fn is_sick(&self) -> bool {
        let code = self.status.as_ref().ok().and_then(ExitStatus::code);
        code == Some(Exit::Sick as i32)
    }

    fn is_success(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }
}

impl Member {
    fn spawn(spec: &FleetSpec, number: u32) -> io::Result<Self> {
        let log = spec.logs.join(format!("worker-{number}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([
                "worker",
                "--until-stdin-closes",
                "--coordinator",
                &spec.coordinator,
            ])
            .args(["--threads", &spec.threads.to_string()])
            .args(["--device", &spec.devices.of_worker(number)])
            .arg("--cache")
            .arg(&spec.cache)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C in a terminal reaches the whole group; workers are told by the coordinator instead.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        Ok(Self {
            number,
            since: Instant::now(),
            _alive: child.stdin.take(),
            child,
            log,
        })
    }

    async fn exit(&mut self) -> Exited {
        let pid = self.child.id();
        let status = self.child.wait().await;
        Exited {
            number: self.number,
            pid,
            lived: self.since.elapsed(),
            status,
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

    fn exited(code: i32) -> Exited {
        use std::os::unix::process::ExitStatusExt;

        Exited {
            number: 1,
            pid: None,
            lived: Duration::from_secs(1),
            status: Ok(ExitStatus::from_raw(code << 8)),
            log: PathBuf::new(),
        }
    }

    #[test]
    fn only_a_worker_whose_gpu_is_sick_is_done_without_and_not_the_last() {
        assert!(exited(23).is_sick());
        assert!(!exited(13).is_sick());
        assert!(!Fleet::none().does_without(&exited(23)));
    }

    #[test]
    fn a_dead_worker_is_reported_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("worker-2.log");
        let text: String = (0..40).map(|line| format!("line {line}\n")).collect();
        fs::write(&log, text).unwrap();
        let exited = Exited {
            number: 2,
            pid: Some(77),
            lived: Duration::from_secs(1),
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
