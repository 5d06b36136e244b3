//! A queue's coordinator and its workers as processes, with a client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use weft_common::recipe::Recipe;
use weft_proto::v1;
use weft_proto::v1::control_client::ControlClient;
use weft_tests::process::{DEADLINE, Running, Weft};
use weft_tests::quickstart::Quickstart;

/// Between two looks at a job: a step takes longer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A queue; whatever still runs is killed when this is dropped.
pub(crate) struct Daemon {
    pub(crate) quickstart: Quickstart,
    state: PathBuf,
    listen: String,
    coordinator: Option<Running>,
    former: Vec<Running>,
    workers: Vec<Running>,
}

/// A job to hand in.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) name: &'static str,
    pub(crate) sets: Vec<String>,
    pub(crate) workers: u32,
    pub(crate) priority: i32,
    pub(crate) resume_newest: bool,
}

impl Ask {
    /// So many steps of the quickstart, with a checkpoint after every third, on one to two workers.
    pub(crate) fn steps(name: &'static str, steps: u64) -> Self {
        let sets = [
            format!("training.max_steps={steps}"),
            "training.save_steps=3".to_owned(),
            "training.logging_steps=1".to_owned(),
        ];
        Self {
            name,
            sets: sets.to_vec(),
            workers: 2,
            priority: 0,
            resume_newest: false,
        }
    }

    pub(crate) fn set(mut self, assignment: &str) -> Self {
        self.sets.push(assignment.to_owned());
        self
    }

    pub(crate) fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    pub(crate) fn priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }

    fn request(&self, output: PathBuf) -> v1::SubmitJobRequest {
        let recipe = Recipe::load(&Quickstart::recipe(), &self.sets)
            .unwrap()
            .recipe;
        v1::SubmitJobRequest {
            recipe_json: recipe.to_json(),
            workers: self.workers,
            output_dir: output.to_str().unwrap().to_owned(),
            priority: self.priority,
            name: self.name.to_owned(),
            resume_newest: self.resume_newest,
            ..v1::SubmitJobRequest::default()
        }
    }
}

impl Daemon {
    /// A queue without workers.
    pub(crate) fn start() -> Self {
        let quickstart = Quickstart::new();
        let state = quickstart.folder().join("state");
        Self::keeping(quickstart, state)
    }

    /// A queue without workers that keeps its jobs in `state`.
    pub(crate) fn keeping(quickstart: Quickstart, state: PathBuf) -> Self {
        let mut daemon = Self {
            quickstart,
            state,
            listen: weft_tests::cluster::own_loopback() + ":0",
            coordinator: None,
            former: Vec::new(),
            workers: Vec::new(),
        };
        daemon.launch();
        daemon
    }

    fn launch(&mut self) {
        let cache = self.quickstart.folder().join("cache");
        let weft = Weft::new(&cache, ["coordinator", "--listen", &self.listen])
            .arg_path("--state", &self.state)
            .env("WEFT_LOG", "info,weft_coordinator=debug");
        let mut coordinator = weft.start();
        let line = coordinator.wait_for("listening on http://");
        line.rsplit('/')
            .next()
            .unwrap()
            .clone_into(&mut self.listen);
        self.coordinator = Some(coordinator);
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Kills the coordinator and waits for its end.
    pub(crate) fn bury(&mut self) {
        self.end("KILL");
    }

    /// Ends the coordinator with a signal.
    pub(crate) fn end(&mut self, signal: &str) {
        let mut coordinator = self.coordinator.take().unwrap();
        weft_tests::process::send(coordinator.pid(), signal);
        coordinator.await_end();
        // What it said ends a moment before its port is free.
        coordinator.exit_code();
        self.former.push(coordinator);
    }

    /// Another coordinator in the same place.
    pub(crate) fn restart(&mut self) {
        self.launch();
    }

    pub(crate) fn coordinator(&mut self) -> &mut Running {
        self.coordinator.as_mut().unwrap()
    }

    /// Starts a worker and waits until it has attached.
    pub(crate) fn join(&mut self) {
        let cache = self.quickstart.folder().join("cache");
        let url = format!("http://{}", self.listen);
        let weft = Weft::new(&cache, ["worker", "--coordinator", &url]).args([
            "--threads",
            "1",
            "--coordinator-grace",
            "120",
        ]);
        let mut worker = weft.start();
        worker.wait_for("attached");
        self.workers.push(worker);
    }

    pub(crate) async fn client(&self) -> ControlClient<Channel> {
        let client = ControlClient::connect(format!("http://{}", self.listen)).await;
        client.unwrap().max_decoding_message_size(64 << 20)
    }

    /// Hands a job in, which leaves its results in the folder of its name.
    pub(crate) async fn submit(&self, ask: &Ask) -> Result<v1::Job, tonic::Status> {
        let request = ask.request(self.quickstart.output(ask.name));
        let job = self.client().await.submit_job(request).await?;
        Ok(job.into_inner())
    }

    pub(crate) async fn job(&self, wanted: &str) -> v1::Job {
        let wanted = v1::JobRef {
            id: wanted.to_owned(),
        };
        self.client()
            .await
            .get_job(wanted)
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits until a job is as `wanted` says.
    pub(crate) async fn wait_for(
        &mut self,
        job: &str,
        what: &str,
        wanted: impl Fn(&v1::Job) -> bool,
    ) -> v1::Job {
        let end = Instant::now() + DEADLINE;
        loop {
            let seen = self.job(job).await;
            if wanted(&seen) {
                return seen;
            }
            if is_over(&seen) || Instant::now() > end {
                let said = self.all_said();
                panic!("{job} never came to: {what}; it is {seen:?}\n{said}");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for a job's success.
    pub(crate) async fn succeeds(&mut self, job: &str) -> v1::Job {
        let success = |job: &v1::Job| job.phase() == v1::JobPhase::Succeeded;
        self.wait_for(job, "success", success).await
    }

    /// What happened to a job, as kind and text.
    pub(crate) async fn events(&self, job: &str) -> Vec<(String, String)> {
        let request = v1::JobEventsRequest {
            job: Some(v1::JobRef { id: job.to_owned() }),
            after: 0,
            last: 0,
            follow: true,
        };
        let mut events = self
            .client()
            .await
            .job_events(request)
            .await
            .unwrap()
            .into_inner();
        let mut all = Vec::new();
        while let Some(event) = events.message().await.unwrap() {
            all.push((event.kind, event.text));
        }
        all
    }

    /// The figures of a job's steps.
    pub(crate) async fn steps(&self, job: &str) -> Vec<v1::StepFigures> {
        let request = v1::JobStepsRequest {
            job: Some(v1::JobRef { id: job.to_owned() }),
            after: 0,
            last: 0,
            follow: true,
        };
        let mut steps = self
            .client()
            .await
            .job_steps(request)
            .await
            .unwrap()
            .into_inner();
        let mut all = Vec::new();
        while let Some(step) = steps.message().await.unwrap() {
            all.push(step);
        }
        all
    }

    /// Demands the adapter of a run of its own, to the last bit, a clean audit and all files that a run leaves.
    pub(crate) fn left_like_a_run(&self, ask: &Ask) {
        let mut alone = Quickstart::new();
        for set in &ask.sets {
            alone = alone.set(set);
        }
        alone.run("alone", 2).finish().succeeded();
        assert_eq!(self.quickstart.adapter(ask.name), alone.adapter("alone"));
        let output = self.quickstart.output(ask.name);
        let cache = self.quickstart.folder().join("cache");
        Weft::new(&cache, ["audit"])
            .args([&output])
            .finish()
            .succeeded();
        for name in [
            "recipe.json",
            "metrics.jsonl",
            "trainer_state.json",
            "trainer_stats.json",
            "adapter/tokenizer.json",
        ] {
            assert!(output.join(name).exists(), "{name} is missing");
        }
        let metrics = |folder: PathBuf| {
            let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
            let losses = text.lines().map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                (record["step"].clone(), record["loss"].clone())
            });
            losses.collect::<Vec<_>>()
        };
        assert_eq!(metrics(output), metrics(alone.output("alone")));
    }

    fn all_said(&mut self) -> String {
        let all = self
            .former
            .iter_mut()
            .chain(&mut self.coordinator)
            .chain(&mut self.workers);
        let texts = all.map(|process| process.said().join("\n"));
        texts.collect::<Vec<_>>().join("\n--- next process ---\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.all_said());
        }
    }
}

pub(crate) fn is_over(job: &v1::Job) -> bool {
    match job.phase() {
        v1::JobPhase::Succeeded | v1::JobPhase::Failed | v1::JobPhase::Cancelled => true,
        v1::JobPhase::Unspecified
        | v1::JobPhase::Queued
        | v1::JobPhase::Preparing
        | v1::JobPhase::Forming
        | v1::JobPhase::Running
        | v1::JobPhase::Draining => false,
    }
}
