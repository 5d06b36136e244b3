//! The service that people's tools talk to.

mod history;
mod lookup;
mod submit;

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use weft_common::wire::WEFT_VERSION;
use weft_proto::v1;
use weft_proto::v1::control_server::Control;

use crate::handle::CoordinatorHandle;
use crate::records::Records;
use lookup::Job;

/// Serves people's tools.
#[derive(Debug, Clone)]
pub(crate) struct ControlService {
    coordinator: CoordinatorHandle,
}

impl ControlService {
    pub(crate) fn new(coordinator: CoordinatorHandle) -> Self {
        Self { coordinator }
    }

    fn records(&self) -> Result<Records, Status> {
        let records = self.coordinator.records.clone();
        records.ok_or_else(|| {
            Status::failed_precondition(
                "this coordinator runs one recipe and keeps no records; metrics.jsonl in its output folder has the \
                 figures, and its log says what happened",
            )
        })
    }
}

/// What a call answers, one after the other.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let job = submit::submit(&self.coordinator, request.into_inner()).await?;
        Ok(Response::new(job.into()))
    }

    async fn get_job(&self, request: Request<v1::JobRef>) -> Result<Response<v1::Job>, Status> {
        let job = self.find(request.into_inner()).await?;
        Ok(Response::new(job.view().into()))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.list(request.ended, request.last).await?))
    }

    async fn scale_job(
        &self,
        request: Request<v1::ScaleJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let request = request.into_inner();
        let job = self.find(request.job.unwrap_or_default()).await?;
        let view = job.view();
        if view.phase.is_over() {
            return Err(Status::failed_precondition(format!(
                "job {} is over: {}",
                view.id, view.detail
            )));
        }
        if request.workers < view.min_workers.max(1) || request.workers > view.max_workers {
            return Err(Status::invalid_argument(format!(
                "{} workers asked for, but the recipe allows {} to {}; change resources.workers",
                request.workers, view.min_workers, view.max_workers
            )));
        }
        self.coordinator
            .scale(view.id.clone(), request.workers)
            .await;
        Ok(Response::new(view.into()))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        let workers = self.coordinator.workers();
        let workers = workers.iter().cloned().map(Into::into).collect();
        Ok(Response::new(v1::ListWorkersReply {
            workers,
            weft_version: WEFT_VERSION.to_owned(),
        }))
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

    type WatchJobStream = Answers<v1::Job>;

    async fn watch_job(
        &self,
        request: Request<v1::JobRef>,
    ) -> Result<Response<Answers<v1::Job>>, Status> {
        let own = match self.find(request.into_inner()).await? {
            Job::Known(view) => WatchStream::new(view),
            Job::Recorded(view) => {
                let once = futures::stream::iter([Ok((*view).into())]);
                return Ok(Response::new(Box::pin(once)));
            }
        };
        let until_end = own.scan(false, |ended, view| {
            let item = (!*ended).then(|| view.clone());
            *ended |= view.phase.is_over();
            std::future::ready(item)
        });
        let stream = until_end.map(|view| Ok(view.into()));
        Ok(Response::new(Box::pin(stream)))
    }

    type JobEventsStream = Answers<v1::JobEvent>;

    async fn job_events(
        &self,
        request: Request<v1::JobEventsRequest>,
    ) -> Result<Response<Answers<v1::JobEvent>>, Status> {
        let mut request = request.into_inner();
        let job = self.find(request.job.take().unwrap_or_default()).await?;
        let records = self.records()?;
        let events = history::events(records, job.id(), request).await?;
        Ok(Response::new(events))
    }

    type JobStepsStream = Answers<v1::StepFigures>;

    async fn job_steps(
        &self,
        request: Request<v1::JobStepsRequest>,
    ) -> Result<Response<Answers<v1::StepFigures>>, Status> {
        let mut request = request.into_inner();
        let job = self.find(request.job.take().unwrap_or_default()).await?;
        let records = self.records()?;
        let steps = history::steps(records, job.id(), request).await?;
        Ok(Response::new(steps))
    }

    async fn cancel_job(&self, request: Request<v1::JobRef>) -> Result<Response<v1::Job>, Status> {
        let view = self.find(request.into_inner()).await?.view();
        if !view.phase.is_over() {
            self.coordinator.cancel(view.id.clone()).await;
        }
        Ok(Response::new(view.into()))
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
