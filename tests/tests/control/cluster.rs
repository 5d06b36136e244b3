//! A coordinator and workers in one process, joined by real connections.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_common::data::RowStat;
use weft_common::id::{Digest, JobId, Term};
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::{CheckpointRef, DatasetFile, DatasetRef};
use weft_coordinator::{
    Coordinator, CoordinatorConfig, DataSource, Incident, JobHandle, JobOutcome, JobSpec, Limits,
    Needs, Notice, Notices, OnNonFinite, PreparedData, RunningCoordinator, StepReport,
    WorkersBefore,
};
use weft_worker::agent::{WorkerConfig, WorkerExit, run_worker};

use crate::fake_engine::{Behaviour, factory};

/// Far more than any of these runs takes, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the prepared dataset's one file.
pub(crate) const ROWS: &[u8] = b"rows of the prepared dataset";

pub(crate) struct Cluster {
    pub(crate) dir: Arc<TempDir>,
    pub(crate) coordinator: RunningCoordinator,
    pub(crate) workers: Vec<Worker>,
}

pub(crate) struct Worker {
    pub(crate) exit: JoinHandle<WorkerExit>,
    pub(crate) stop: CancellationToken,
}

/// Forty-eight rows of ten tokens, in one file.
struct FakeData(std::path::PathBuf);

impl DataSource for FakeData {
    fn prepare(&self, _: &Recipe) -> Result<PreparedData, String> {
        fs::create_dir_all(&self.0).map_err(|error| error.to_string())?;
        fs::write(self.0.join("rows.bin"), ROWS).map_err(|error| error.to_string())?;
        let stat = RowStat {
            tokens: 10,
            supervised: 4,
        };
        Ok(PreparedData {
            dataset: DatasetRef {
                digest: Digest::of(ROWS),
                dir: self.0.clone(),
                files: vec![DatasetFile {
                    name: "rows.bin".to_owned(),
                    bytes: ROWS.len() as u64,
                }],
            },
            stats: Arc::from(vec![stat; 48]),
        })
    }
}

/// Six slots a step.
pub(crate) fn recipe(steps: u64, save_steps: u64) -> Recipe {
    let text = format!(
        r#"{{"model": {{"base_model": "/fake", "max_seq_length": 32}},
             "datasets": [{{"path": "/fake.jsonl"}}],
             "training": {{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 6,
                           "max_steps": {steps}, "save_steps": {save_steps}}}}}"#
    );
    Recipe::parse(&text, Format::Json).unwrap()
}

impl Cluster {
    pub(crate) async fn start(behaviours: Vec<Behaviour>) -> Self {
        let mut cluster = Self::in_dir(Arc::new(tempfile::tempdir().unwrap())).await;
        for behaviour in behaviours {
            cluster.join(behaviour);
        }
        cluster
    }

    /// A coordinator that finds what an earlier one left in `dir`.
    pub(crate) async fn in_dir(dir: Arc<TempDir>) -> Self {
        let coordinator = Coordinator::bind(config(dir.path())).await.unwrap();
        Self {
            dir,
            coordinator,
            workers: Vec::new(),
        }
    }

    pub(crate) fn join(&mut self, behaviour: Behaviour) {
        self.join_at(self.url(), behaviour);
    }

    /// A worker that looks for the coordinator at `url`.
    pub(crate) fn join_at(&mut self, url: String, behaviour: Behaviour) {
        let stop = CancellationToken::new();
        let config = WorkerConfig {
            coordinator: url,
            device: "fake".to_owned(),
            memory_bytes: 0,
            labels: std::collections::BTreeMap::new(),
            cache_dir: self.dir.path().join("cache"),
            listen_ip: "127.0.0.1".parse().unwrap(),
            from_ip: None,
            connect_within: PATIENCE,
            coordinator_grace: PATIENCE,
            hang_after: PATIENCE,
            health: None,
            stop: stop.clone(),
        };
        let exit = tokio::spawn(run_worker(config, factory(behaviour)));
        self.workers.push(Worker { exit, stop });
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.coordinator.addr)
    }

    pub(crate) fn spec(&self, recipe: Recipe) -> JobSpec {
        JobSpec {
            id: JobId::generate(),
            name: String::new(),
            recipe,
            workers: u32::try_from(self.workers.len()).unwrap(),
            priority: 0,
            gang: None,
            needs: Needs::default(),
            form_within: PATIENCE,
            output_dir: self.dir.path().join("out"),
            resume: None,
            workers_before: WorkersBefore::Gone,
            on_non_finite: OnNonFinite::Fail,
        }
    }

    pub(crate) async fn submit(&self, spec: JobSpec) -> Run {
        let (job, notices) = self.coordinator.handle.submit(spec).await.unwrap();
        Run { job, notices }
    }

    /// Ends everything; the workers' exits, in the order they joined.
    pub(crate) async fn end(self) -> Vec<WorkerExit> {
        let ended = timeout(PATIENCE, self.coordinator.shutdown("the test is over")).await;
        ended.expect("the coordinator ends when told to");
        let mut exits = Vec::new();
        for worker in self.workers {
            let exit = timeout(PATIENCE, worker.exit).await;
            let exit = exit.expect("a worker ends when dismissed");
            exits.extend(exit.ok());
        }
        exits
    }
}

pub(crate) fn config(dir: &Path) -> CoordinatorConfig {
    CoordinatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        state_dir: dir.join("state"),
        after: Term(0),
        data: Arc::new(FakeData(dir.join("data"))),
        queue: None,
        limits: Limits {
            save_again_within: Duration::ZERO,
            ..Limits::default()
        },
    }
}

/// A submitted job.
pub(crate) struct Run {
    pub(crate) job: JobHandle,
    notices: Notices,
}

/// A finished job.
pub(crate) struct Finished {
    pub(crate) outcome: JobOutcome,
    pub(crate) steps: Vec<StepReport>,
    pub(crate) checkpoints: Vec<CheckpointRef>,
    pub(crate) incidents: Vec<Incident>,
}

impl Run {
    /// Follows the job to its end; `each` sees every committed step.
    pub(crate) async fn follow(
        mut self,
        mut each: impl AsyncFnMut(&JobHandle, &StepReport),
    ) -> Finished {
        let (mut steps, mut checkpoints) = (Vec::new(), Vec::new());
        let mut incidents = Vec::new();
        loop {
            let notice = timeout(PATIENCE, self.notices.next()).await;
            match notice
                .expect("the job goes on")
                .expect("the coordinator lives")
            {
                Notice::StepCommitted(step) => {
                    each(&self.job, &step).await;
                    steps.push(step);
                }
                Notice::CheckpointSaved { checkpoint, .. } => checkpoints.push(checkpoint),
                Notice::MemberLost(incident) => incidents.push(incident),
                Notice::Ended(outcome) => {
                    return Finished {
                        outcome,
                        steps,
                        checkpoints,
                        incidents,
                    };
                }
                Notice::WorkerJoined(_)
                | Notice::WorkerGone { .. }
                | Notice::Planned { .. }
                | Notice::Admitted
                | Notice::Waiting(_)
                | Notice::EpochFormed(_)
                | Notice::RolledBack { .. }
                | Notice::CheckpointFailed { .. }
                | Notice::CheckpointOverdue(_)
                | Notice::GpuSick { .. }
                | Notice::GpuConcern { .. }
                | Notice::Draining(_) => {}
            }
        }
    }

    pub(crate) async fn finish(self) -> Finished {
        self.follow(async |_, _| {}).await
    }
}
