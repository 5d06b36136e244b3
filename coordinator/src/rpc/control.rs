//! The service that people's tools talk to.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use weft_common::id::JobId;
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::CheckpointRef;
use weft_proto::v1;
use weft_proto::v1::control_server::Control;

use super::stopped;
use crate::config::{JobSpec, SubmitError, WorkersBefore};
use crate::engine::{Needs, OnNonFinite};
use crate::handle::CoordinatorHandle;
use crate::view::JobView;

/// Workers of a cluster may still have to be scheduled.
const FORM_WITHIN: Duration = Duration::from_secs(600);

/// Serves people's tools.
#[derive(Debug, Clone)]
pub(crate) struct ControlService {
    coordinator: CoordinatorHandle,
}

impl ControlService {
    pub(crate) fn new(coordinator: CoordinatorHandle) -> Self {
        Self { coordinator }
    }

    fn watch(&self, id: &str) -> Result<watch::Receiver<JobView>, Status> {
        let known = id.parse().ok().and_then(|id| self.coordinator.job(&id));
        known.ok_or_else(|| {
            Status::not_found(format!("no job {id}; ListJobs names those there are"))
        })
    }

    fn job(&self, id: &str) -> Result<JobView, Status> {
        Ok(self.watch(id)?.borrow().clone())
    }
}

type JobStream = Pin<Box<dyn Stream<Item = Result<v1::Job, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let spec = job_spec(request.into_inner())?;
        let (job, _) = self.coordinator.submit(spec).await.map_err(refused)?;
        Ok(Response::new(self.job(job.id.as_str())?.into()))
    }

    async fn get_job(&self, request: Request<v1::JobRef>) -> Result<Response<v1::Job>, Status> {
        let job = self.job(&request.into_inner().id)?;
        Ok(Response::new(job.into()))
    }

    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        let jobs = self.coordinator.jobs().into_iter();
        let jobs = jobs.map(Into::into).collect();
        Ok(Response::new(v1::ListJobsReply { jobs, left_out: 0 }))
    }

    async fn scale_job(
        &self,
        request: Request<v1::ScaleJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let request = request.into_inner();
        let job = self.job(&request.job.unwrap_or_default().id)?;
        if request.workers < job.min_workers || request.workers > job.max_workers {
            return Err(Status::invalid_argument(format!(
                "{} workers asked for, but the recipe allows {} to {}; change resources.workers",
                request.workers, job.min_workers, job.max_workers
            )));
        }
        self.coordinator
            .scale(job.id.clone(), request.workers)
            .await;
        Ok(Response::new(job.into()))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        let workers = self.coordinator.workers();
        let workers = workers.iter().cloned().map(Into::into).collect();
        Ok(Response::new(v1::ListWorkersReply { workers }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerReply>, Status> {
        let name = request.into_inner().worker;
        let known = self.coordinator.workers();
        let worker = known.iter().find(|known| known.worker.to_string() == name);
        let worker = worker.ok_or_else(|| {
            Status::not_found(format!(
                "no worker {name}; ListWorkers names those there are"
            ))
        })?;
        self.coordinator.drain(worker.worker).await;
        Ok(Response::new(v1::DrainWorkerReply {}))
    }

    type WatchJobStream = JobStream;

    async fn watch_job(&self, request: Request<v1::JobRef>) -> Result<Response<JobStream>, Status> {
        let own = WatchStream::new(self.watch(&request.into_inner().id)?);
        let until_end = own.scan(false, |ended, view| {
            let item = (!*ended).then(|| view.clone());
            *ended |= view.phase.is_over();
            std::future::ready(item)
        });
        let stream = until_end.map(|view| Ok(view.into()));
        Ok(Response::new(Box::pin(stream)))
    }

    type JobEventsStream = Pin<Box<dyn Stream<Item = Result<v1::JobEvent, Status>> + Send>>;

    async fn job_events(
        &self,
        _: Request<v1::JobEventsRequest>,
    ) -> Result<Response<Self::JobEventsStream>, Status> {
        Err(Status::unimplemented("this coordinator keeps no records"))
    }

    type JobStepsStream = Pin<Box<dyn Stream<Item = Result<v1::StepFigures, Status>> + Send>>;

    async fn job_steps(
        &self,
        _: Request<v1::JobStepsRequest>,
    ) -> Result<Response<Self::JobStepsStream>, Status> {
        Err(Status::unimplemented("this coordinator keeps no records"))
    }

    async fn cancel_job(&self, request: Request<v1::JobRef>) -> Result<Response<v1::Job>, Status> {
        let job = self.job(&request.into_inner().id)?;
        self.coordinator.cancel(job.id.clone()).await;
        Ok(Response::new(job.into()))
    }

    async fn shutdown(
        &self,
        request: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownReply>, Status> {
        let reason = request.into_inner().reason;
        self.coordinator.request_shutdown(&reason).await;
        Ok(Response::new(v1::ShutdownReply {}))
    }
}

fn job_spec(request: v1::SubmitJobRequest) -> Result<JobSpec, Status> {
    let recipe = Recipe::parse(&request.recipe_json, Format::Json)
        .map_err(|errors| Status::invalid_argument(errors.to_string()))?;
    let workers = match request.workers {
        0 => *recipe.worker_bounds().end(),
        workers => workers,
    };
    let output_dir = match request.output_dir.as_str() {
        "" => PathBuf::from(&recipe.training.output_dir),
        dir => PathBuf::from(dir),
    };
    Ok(JobSpec {
        id: JobId::generate(),
        workers,
        // A job of a queue starts with what it needs, and grows when workers are free.
        gang: Some(*recipe.worker_bounds().start()),
        priority: request.priority,
        needs: Needs {
            memory_bytes: request.worker_memory_bytes,
            labels: request.worker_labels.into_iter().collect(),
        },
        form_within: FORM_WITHIN,
        output_dir,
        resume: request.resume.map(CheckpointRef::from),
        workers_before: WorkersBefore::Gone,
        on_non_finite: OnNonFinite::default(),
        recipe,
    })
}

/// The one place where a refused job becomes a status.
fn refused(error: SubmitError) -> Status {
    match error {
        SubmitError::Stopped => stopped(),
        SubmitError::Workers { .. } => Status::invalid_argument(error.to_string()),
        SubmitError::Refused(_) => Status::failed_precondition(error.to_string()),
    }
}
