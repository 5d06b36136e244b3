//! One job from preflight to adapter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_common::id::{JobId, Step, Term};
use weft_common::ledger::{job_of, newest_term};
use weft_common::store;
use weft_common::wire::CheckpointRef;
use weft_coordinator::{
    Coordinator, CoordinatorConfig, JobOutcome, JobSpec, Limits, Needs, OnNonFinite, PreparedData,
    RunningCoordinator, WorkersBefore,
};

use super::finish::finish;
use super::fleet::{Fleet, FleetSpec};
use super::follow::{Followed, Subject, follow};
use super::observer::Observer;
use super::ready::Ready;
use crate::device::Devices;
use crate::exit::{Exit, Failure};
use crate::output::folder::{Existing, FolderLock};
use crate::output::print;
use crate::signals::StopSignals;

/// How long to wait for workers: those of other machines may still be loading the model.
const FORM_WITHIN: Duration = Duration::from_secs(600);
/// How long a final checkpoint that fails is tried again, where someone waits at the terminal.
const SAVE_AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// What workers are told when there is nothing left to compute.
const OVER: &str = "the job is over";
/// How long dismissed workers may take to end.
const WORKERS_END_WITHIN: Duration = Duration::from_secs(10);

/// Where coordinator and workers are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Where the coordinator listens.
    pub(crate) listen: SocketAddr,
    /// What the worker processes compute with that are started here; none are where workers come by themselves.
    pub(crate) embedded: Option<Embedded>,
    /// How the process goes with its job.
    pub(crate) manner: Manner,
}

/// How a process goes with its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Both end together: a request to stop ends the job, and the process ends with the job.
    Command,
    /// Something starts it again whenever it ends. A request to stop ends the process alone: the next one goes on with the
    /// job. Once that is over, the process stays to send workers home that come late.
    Service,
}

/// What worker processes of this machine compute with.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    /// Threads of each.
    pub(crate) threads: usize,
    /// The devices, which they share.
    pub(crate) devices: Devices,
}

/// A job about to run.
pub(crate) struct Job {
    ready: Ready,
    place: Place,
}

impl Job {
    /// A job that nothing speaks against.
    pub(crate) fn new(ready: Ready, place: Place) -> Self {
        Self { ready, place }
    }

    /// Runs it to its end and leaves its results.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let ready = &self.ready;
        let committed = ready
            .checkpoint
            .as_ref()
            .map_or(Step(0), |at| at.manifest.meta.step);
        if ready.folder.is_finished() && committed.0 == ready.preflight.planner.total_steps() {
            print::aside(format_args!(
                "{} holds the finished run; nothing to do",
                ready.folder.root().display()
            ));
            return match self.place.manner {
                Manner::Command => Ok(()),
                Manner::Service => runtime()?.block_on(self.stay_with_results()),
            };
        }
        runtime()?.block_on(self.drive(committed))
    }

    async fn drive(&self, committed: Step) -> Result<(), Failure> {
        let mut signals = StopSignals::listen().map_err(environment)?;
        let _lock = self.open_folder()?;
        let coordinator = self.start_coordinator().await?;
        let mut observer = Observer::new(
            self.ready.facts(committed.0, self.place.embedded.as_ref()),
            self.ready.folder.clone(),
            // What the ledger has beyond the checkpoint may still count.
            self.former().map_or(committed.0, |_| u64::MAX),
        )
        .map_err(environment)?;
        let submitted = coordinator.handle.submit(self.spec()).await;
        let (job, mut notices) = submitted.map_err(|error| Failure::new(Exit::Job, error))?;
        let mut fleet = self.start_workers(&coordinator)?;
        let subject = Subject {
            job: &job,
            notices: &mut notices,
            fleet: &mut fleet,
            signals: &mut signals,
            manner: self.place.manner,
        };
        let outcome = match follow(subject, &mut observer).await? {
            Followed::Over(outcome) => outcome,
            Followed::Told(signal) => {
                coordinator.leave().await;
                print::error(format_args!(
                    "{signal}: the job goes on, and workers wait, until the same command is started again"
                ));
                return Ok(());
            }
        };
        let succeeded = matches!(outcome, JobOutcome::Succeeded { .. });
        if succeeded && self.place.manner == Manner::Service {
            coordinator.handle.retire(OVER).await;
            finish(&self.ready, &observer, &outcome, None)?;
            return stay(coordinator, signals).await;
        }
        coordinator.shutdown(OVER).await;
        let exited = fleet.stop(WORKERS_END_WITHIN).await;
        finish(&self.ready, &observer, &outcome, exited.as_ref())
    }

    /// Only sends workers home: an earlier process finished the job.
    async fn stay_with_results(&self) -> Result<(), Failure> {
        let signals = StopSignals::listen().map_err(environment)?;
        let coordinator = self.start_coordinator().await?;
        coordinator.handle.retire(OVER).await;
        stay(coordinator, signals).await
    }

    /// Takes the output folder and leaves the resolved recipe there.
    fn open_folder(&self) -> Result<FolderLock, Failure> {
        // Without a checkpoint there is nothing to go on from, and what an earlier run left would only be in the way.
        let started = self.ready.checkpoint.is_some() || self.former().is_some();
        let existing = match self.ready.existing {
            Existing::Resume if !started => Existing::Overwrite,
            existing => existing,
        };
        self.ready.open_folder(existing)
    }

    async fn start_coordinator(&self) -> Result<RunningCoordinator, Failure> {
        let config = CoordinatorConfig {
            listen: self.place.listen,
            state_dir: self.ready.folder.coordinator(),
            after: self.after()?,
            data: Arc::new(PreparedData::of(&self.ready.preflight.prepared).map_err(environment)?),
            queue: None,
            limits: match self.place.embedded {
                Some(_) => Limits {
                    save_again_within: SAVE_AGAIN_WITHIN,
                    ..Limits::default()
                },
                None => Limits::default(),
            },
        };
        let coordinator = Coordinator::bind(config).await.map_err(environment)?;
        if self.place.embedded.is_none() {
            print::aside(format_args!("listening on http://{}", coordinator.addr));
        }
        Ok(coordinator)
    }

    fn spec(&self) -> JobSpec {
        let Ready {
            preflight,
            checkpoint,
            ..
        } = &self.ready;
        let resume = checkpoint.as_ref().map(|at| CheckpointRef {
            dir: at.folder.clone(),
            next_step: at.manifest.meta.step,
        });
        let workers_before = match self.former() {
            Some(_) => WorkersBefore::MayReturn,
            None => WorkersBefore::Gone,
        };
        JobSpec {
            id: self.earlier().unwrap_or_else(JobId::generate),
            name: String::new(),
            recipe: preflight.recipe.clone(),
            priority: 0,
            workers: self.ready.workers,
            gang: self.gang(),
            needs: Needs::default(),
            form_within: FORM_WITHIN,
            output_dir: self.ready.folder.root().to_owned(),
            resume,
            workers_before,
            on_non_finite: OnNonFinite::default(),
        }
    }

    /// A service starts with as few workers as the recipe allows, as a queue does, and takes the others as they come.
    fn gang(&self) -> Option<u32> {
        match self.place.manner {
            Manner::Command => None,
            Manner::Service => Some(*self.ready.preflight.recipe.worker_bounds().start()),
        }
    }

    /// The job that an earlier coordinator ran in this folder, where its workers may have outlived it: those of this
    /// machine end with it.
    fn former(&self) -> Option<JobId> {
        let resumes = self.ready.existing == Existing::Resume;
        if !resumes || self.place.embedded.is_some() {
            return None;
        }
        let here = job_of(&self.ready.folder.ledger()).ok().flatten();
        here.or_else(|| self.ready.ledger_of.clone())
    }

    /// The job that this run goes on with.
    fn earlier(&self) -> Option<JobId> {
        let checkpoint = self.ready.checkpoint.as_ref();
        let of_checkpoint = checkpoint.map(|at| at.manifest.meta.job.clone());
        of_checkpoint.or_else(|| self.former())
    }

    /// The newest term of the job that a coordinator had, wherever it ran: a queue may have run it before, or another
    /// machine.
    fn after(&self) -> Result<Term, Failure> {
        let here = newest_term(&self.ready.folder.ledger()).map_err(environment)?;
        let here = here.unwrap_or_default();
        let (Some(store), Some(job)) = (&self.ready.store, self.earlier()) else {
            return Ok(here);
        };
        let claimed = tokio::task::block_in_place(|| store::newest_term(store, &job));
        Ok(here.max(claimed.map_err(environment)?.unwrap_or_default()))
    }

    fn start_workers(&self, coordinator: &RunningCoordinator) -> Result<Fleet, Failure> {
        let Some(Embedded { threads, devices }) = &self.place.embedded else {
            return Ok(Fleet::none());
        };
        let spec = FleetSpec {
            coordinator: format!("http://{}", coordinator.addr),
            workers: self.ready.workers,
            threads: *threads,
            devices: devices.clone(),
            logs: self.ready.folder.logs(),
            cache: self.ready.cache.clone(),
        };
        Fleet::spawn(spec)
            .map_err(|error| environment(format_args!("cannot start worker processes: {error}")))
    }
}

/// Answers until the process is told to stop.
async fn stay(coordinator: RunningCoordinator, mut signals: StopSignals) -> Result<(), Failure> {
    print::error(
        "the job is over; staying to send workers home that come late, until told to stop",
    );
    signals.next().await;
    coordinator.leave().await;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(environment)
}

fn environment(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Environment, error)
}
