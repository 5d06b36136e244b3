//! `weft coordinator` and `weft worker` as processes of their own, on the quickstart, with faults.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::files;
use crate::process::{Finished, Running, Weft};
use crate::quickstart::Quickstart;

/// Seconds that a worker looks for a lost coordinator here.
const GRACE_SECONDS: &str = "60";

/// How a process of a cluster is started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// `WEFT_FAILPOINT`.
    pub failpoint: Option<String>,
    /// The network namespace that it runs in.
    pub namespace: Option<String>,
    /// The address that it listens on, where that is not loopback.
    pub ip: Option<String>,
    /// Seconds after which a worker takes its own training thread for one that hangs, where not the usual ones.
    pub hang_after: Option<u32>,
}

impl Start {
    /// Without anything special.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// With a failpoint.
    #[must_use]
    pub fn failing(failpoint: &str) -> Self {
        Self {
            failpoint: Some(failpoint.to_owned()),
            ..Self::default()
        }
    }

    fn apply(&self, weft: Weft) -> Weft {
        let weft = match &self.failpoint {
            Some(failpoint) => weft.env("WEFT_FAILPOINT", failpoint),
            None => weft,
        };
        match &self.namespace {
            Some(namespace) => weft.in_namespace(namespace),
            None => weft,
        }
    }
}

/// A coordinator and its workers; whatever still runs is killed when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    quickstart: Quickstart,
    workers_wanted: u32,
    /// Of the coordinator; known once it has started.
    listen: String,
    coordinator: Option<Running>,
    workers: Vec<Running>,
    former: Vec<Running>,
}

impl Cluster {
    /// A coordinator that runs `quickstart` with as many workers, none of which has started.
    ///
    /// # Panics
    /// It does not come to listen.
    #[must_use]
    pub fn start(quickstart: Quickstart, workers: u32, start: &Start) -> Self {
        Self::start_with(quickstart, workers, start, &[])
    }

    /// As [`start`](Self::start), with further arguments for the coordinator.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(
        quickstart: Quickstart,
        workers: u32,
        start: &Start,
        arguments: &[&str],
    ) -> Self {
        let ip = start.ip.clone().unwrap_or_else(own_loopback);
        let mut cluster = Self {
            quickstart,
            workers_wanted: workers,
            listen: format!("{ip}:0"),
            coordinator: None,
            workers: Vec::new(),
            former: Vec::new(),
        };
        let mut coordinator = cluster.launch(start, arguments);
        let line = coordinator.wait_for("listening on http://");
        let address = line.rsplit('/').next();
        cluster.listen = address.expect("the line has slashes").to_owned();
        cluster.coordinator = Some(coordinator);
        cluster
    }

    fn launch(&self, start: &Start, arguments: &[&str]) -> Running {
        let workers = self.workers_wanted.to_string();
        let weft = self
            .quickstart
            .weft("coordinator")
            .args(["--listen", &self.listen, "--workers", &workers])
            .args(start.ip.iter().map(|_| "--insecure"))
            .args(arguments)
            .arg_path("--output", &self.output())
            .env("WEFT_LOG", "info,weft_coordinator=debug");
        start.apply(weft).start()
    }

    /// Starts a worker and waits until it has attached.
    ///
    /// # Panics
    /// It does not come to that.
    pub fn join(&mut self, start: &Start) -> usize {
        let worker = self.come(start);
        self.workers[worker].wait_for("attached");
        worker
    }

    /// Starts a worker; its number.
    pub fn come(&mut self, start: &Start) -> usize {
        let cache = self.quickstart.folder().join("cache");
        let url = format!("http://{}", self.listen);
        let weft = Weft::new(&cache, ["worker", "--coordinator", &url])
            .args(["--threads", "1", "--coordinator-grace", GRACE_SECONDS])
            .args(start.ip.iter().flat_map(|ip| ["--listen-ip", ip]));
        let hang_after = start.hang_after.map(|seconds| seconds.to_string());
        let weft = weft.args(hang_after.iter().flat_map(|after| ["--hang-after", after]));
        self.workers.push(start.apply(weft).start());
        self.workers.len() - 1
    }

    /// The coordinator of now.
    ///
    /// # Panics
    /// There is none.
    pub fn coordinator(&mut self) -> &mut Running {
        self.coordinator.as_mut().expect("a coordinator runs")
    }

    /// The worker of that number, counted from 0 in the order of their starts.
    pub fn worker(&mut self, number: usize) -> &mut Running {
        &mut self.workers[number]
    }

    /// How many workers were started.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Kills the coordinator, where it lives, and starts another on the same port and output folder.
    pub fn restart(&mut self) {
        self.bury();
        let coordinator = self.launch(&Start::plain(), &["--resume"]);
        self.coordinator = Some(coordinator);
    }

    /// A coordinator for the same output folder on another port.
    #[must_use]
    pub fn another_coordinator(&self) -> Weft {
        self.quickstart
            .weft("coordinator")
            .args(["--resume", "--listen", "127.0.0.1:0"])
            .arg_path("--output", &self.output())
    }

    /// As [`restart`](Self::restart), without the coordinator's disk.
    ///
    /// # Panics
    /// The output folder cannot be put out of the way.
    pub fn restart_elsewhere(&mut self) {
        self.bury();
        let lost = self.quickstart.output("lost");
        std::fs::rename(self.output(), lost).expect("both names are this test's own");
        let coordinator = self.launch(&Start::plain(), &["--resume"]);
        self.coordinator = Some(coordinator);
    }

    /// Kills the coordinator and waits for its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn bury(&mut self) {
        let Some(mut coordinator) = self.coordinator.take() else {
            return;
        };
        coordinator.kill();
        coordinator.await_end();
        // What it said ends a moment before its port is free.
        coordinator.exit_code();
        self.former.push(coordinator);
    }

    /// Where the results lie.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.quickstart.output("out")
    }

    /// Waits for the coordinator's end, and demands success, an adapter like `undisturbed`'s to the last bit, and a clean
    /// audit. What the coordinator said.
    ///
    /// # Panics
    /// One of them is not there.
    pub fn ends_like(mut self, undisturbed: &Undisturbed) -> String {
        self.comes_to(undisturbed)
    }

    /// As [`ends_like`](Self::ends_like); the output folder stays to be looked at.
    ///
    /// # Panics
    /// As [`ends_like`](Self::ends_like).
    pub fn comes_to(&mut self, undisturbed: &Undisturbed) -> String {
        let coordinator = self.coordinator();
        coordinator.await_end();
        let said = coordinator.said().join("\n");
        let code = coordinator.exit_code();
        assert_eq!(code, Some(0), "the coordinator said:\n{said}");
        assert_eq!(self.quickstart.adapter("out"), undisturbed.adapter);
        self.audit().succeeded();
        said
    }

    fn audit(&self) -> Finished {
        let cache = self.quickstart.folder().join("cache");
        Weft::new(&cache, ["audit"]).args([self.output()]).finish()
    }

    fn all_said(&mut self) -> String {
        let coordinators = self.former.iter_mut().chain(&mut self.coordinator);
        let coordinators = coordinators.enumerate().map(|one| ("coordinator", one));
        let workers = self.workers.iter_mut().enumerate();
        let workers = workers.map(|one| ("worker", one));
        let all = coordinators.chain(workers);
        all.map(|(what, (number, process))| {
            format!("--- {what} {number} ---\n{}\n", process.said().join("\n"))
        })
        .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.output().join("ledger");
            let ledger = files::listing(&path).into_iter();
            let texts = ledger.map(|path| std::fs::read_to_string(path).unwrap_or_default());
            let texts: String = texts.collect();
            eprintln!("{}\n--- ledger ---\n{texts}", self.all_said());
        }
    }
}

/// What a run comes to that nothing happens to.
#[derive(Debug)]
pub struct Undisturbed {
    adapter: String,
}

impl Undisturbed {
    /// Runs `quickstart` to its end with one worker.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn of(quickstart: &Quickstart) -> Self {
        quickstart.run("undisturbed", 1).finish().succeeded();
        Self {
            adapter: quickstart.adapter("undisturbed"),
        }
    }

    /// Of [`eight_steps`].
    #[must_use]
    pub fn eight_steps() -> &'static Self {
        static RUN: OnceLock<Undisturbed> = OnceLock::new();
        RUN.get_or_init(|| Self::of(&eight_steps()))
    }

    /// Of [`twenty_steps`].
    #[must_use]
    pub fn twenty_steps() -> &'static Self {
        static RUN: OnceLock<Undisturbed> = OnceLock::new();
        RUN.get_or_init(|| Self::of(&twenty_steps()))
    }
}

/// Eight steps of four micro-batches, with a checkpoint after every third.
#[must_use]
pub fn eight_steps() -> Quickstart {
    Quickstart::new()
        .set("training.max_steps=8")
        .set("training.save_steps=3")
}

/// Twenty steps, which take long enough for several faults.
#[must_use]
pub fn twenty_steps() -> Quickstart {
    Quickstart::new()
        .set("training.max_steps=20")
        .set("training.save_steps=6")
}

/// A loopback address that no other cluster has: a port on it is free again as soon as its owner has ended, since
/// connections elsewhere on this machine leave from other addresses.
#[must_use]
pub fn own_loopback() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.0.x.x and the first and last of a network are other people's.
    format!("127.{}.{low}.{}", high % 254 + 1, number.max(1))
}
