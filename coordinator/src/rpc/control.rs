//! The service that people's tools talk to.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use weft_common::id::JobId;
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::CheckpointRef;
use weft_proto::v1;
use weft_proto::v1::control_server::Control;

use super::stopped;
use crate::config::{JobSpec, SubmitError, WorkersBefore};
use crate::engine::OnNonFinite;
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

    fn job(&self, id: &str) -> Result<JobView, Status> {
        let job = self.coordinator.job().borrow().clone();
        job.filter(|job| job.id.as_str() == id).ok_or_else(|| {
            Status::not_found(format!("no job {id}; ListJobs names those there are"))
        })
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
        let job = self.coordinator.job().borrow().clone();
        let jobs = job.map(Into::into).into_iter().collect();
        Ok(Response::new(v1::ListJobsReply { jobs }))
    }

    type WatchJobStream = JobStream;

    async fn watch_job(&self, request: Request<v1::JobRef>) -> Result<Response<JobStream>, Status> {
        let id = self.job(&request.into_inner().id)?.id;
        let views = WatchStream::new(self.coordinator.job()).filter_map(|view| async { view });
        let own = views.take_while(move |view| std::future::ready(view.id == id));
        let until_end = own.scan(false, |ended, view| {
            let item = (!*ended).then(|| view.clone());
            *ended |= view.outcome.is_some();
            std::future::ready(item)
        });
        let stream = until_end.map(|view| Ok(view.into()));
        Ok(Response::new(Box::pin(stream)))
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
        0 => *recipe.worker_bounds().start(),
        workers => workers,
    };
    let output_dir = match request.output_dir.as_str() {
        "" => PathBuf::from(&recipe.training.output_dir),
        dir => PathBuf::from(dir),
    };
    Ok(JobSpec {
        id: JobId::generate(),
        workers,
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
        SubmitError::Refused(_) | SubmitError::Ledger { .. } => {
            Status::failed_precondition(error.to_string())
        }
    }
}
