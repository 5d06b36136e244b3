//! How the rest of the process talks to a coordinator.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use weft_common::id::{JobId, Term, WorkerId};

use crate::clock::unix_ms;
use crate::config::{JobSpec, SubmitError};
use crate::driver::{Message, Published, Taken};
use crate::engine::{Event, JobOutcome, JobTerms};
use crate::job_io::Submission;
use crate::notices::Notices;
use crate::queue::StartFrom;
use crate::reception::Reception;
use crate::records::{OpenRecords, Records};
use crate::view::{JobView, WorkerView};

/// How long a stopped coordinator waits for peers to close their connections.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long a stopped coordinator waits for its last records.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);

/// Talks to a running coordinator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) published: Published,
    pub(crate) term: Term,
    pub(crate) records: Option<Records>,
    pub(crate) reception: Option<Reception>,
}

/// A coordinator that runs in this process.
#[derive(Debug)]
pub struct RunningCoordinator {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Talks to it.
    pub handle: CoordinatorHandle,
    pub(crate) driver: JoinHandle<()>,
    pub(crate) server: JoinHandle<()>,
    pub(crate) records: Option<OpenRecords>,
}

impl RunningCoordinator {
    /// Cancels what runs, dismisses the workers and waits for the end.
    pub async fn shutdown(self, reason: &str) {
        let reason = reason.to_owned();
        self.handle.tell(Event::ShutdownRequested { reason }).await;
        self.wait().await;
    }

    /// Waits until someone ends the coordinator.
    pub async fn wait(mut self) {
        // A panic in one of them is in the log already.
        let _ = self.driver.await;
        let closed = tokio::time::timeout(CLOSE_WITHIN, &mut self.server).await;
        if closed.is_err() {
            self.server.abort();
        }
        close(self.records.take()).await;
    }

    /// Ends at once and leaves everything as it is. The jobs of a queue go on with the next coordinator of this state
    /// folder, and workers wait for that one.
    pub async fn leave(mut self) {
        self.driver.abort();
        self.server.abort();
        // Cancelled, or over before.
        let _ = (&mut self.driver).await;
        close(self.records.take()).await;
    }
}

impl CoordinatorHandle {
    /// Hands in a job. Its notices start with its submission.
    ///
    /// # Errors
    /// A job of that name is not over, too many wait, or the number of workers is not one that the recipe allows.
    pub async fn submit(&self, spec: JobSpec) -> Result<(JobHandle, Notices), SubmitError> {
        let submission = submission(spec)?;
        let id = submission.terms.id.clone();
        let taken = self.hand_in(submission).await?;
        let handle = JobHandle {
            id,
            coordinator: self.clone(),
            view: taken.view,
        };
        Ok((handle, taken.notices))
    }

    pub(crate) async fn hand_in(&self, submission: Submission) -> Result<Taken, SubmitError> {
        let (reply, answered) = oneshot::channel();
        let message = Message::Submit {
            job: Box::new(submission),
            reply,
        };
        let sent = self.inbox.send(message).await;
        sent.map_err(|_| SubmitError::Stopped)?;
        let taken = answered.await.map_err(|_| SubmitError::Stopped)?;
        Ok(taken?)
    }

    /// Takes in a job of a queue: looks at it, makes it durable, hands it to the engine.
    pub(crate) async fn take_in(
        &self,
        spec: JobSpec,
        from: StartFrom,
    ) -> Result<JobView, SubmitError> {
        match &self.reception {
            Some(reception) => reception.take_in(self, spec, from).await,
            None => Err(SubmitError::NoQueue),
        }
    }

    /// Waits until the coordinator has stopped.
    pub async fn stopped(&self) {
        self.inbox.closed().await;
    }

    /// A job, as it is now and as it changes.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<watch::Receiver<JobView>> {
        self.published.job(id)
    }

    /// All jobs as they are, oldest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        self.published.jobs()
    }

    /// Workers that can be talked to, in the order they started.
    #[must_use]
    pub fn workers(&self) -> Arc<[WorkerView]> {
        self.published.workers()
    }

    /// Asks for a job's end: it finishes the step in hand, writes a checkpoint and ends as cancelled.
    pub async fn cancel(&self, job: JobId) {
        self.tell(Event::CancelRequested(job)).await;
    }

    /// Asks for another number of workers for a job.
    pub async fn scale(&self, job: JobId, workers: u32) {
        self.tell(Event::ScaleRequested { job, workers }).await;
    }

    /// Lets a worker go when nothing is lost by it.
    pub async fn drain(&self, worker: WorkerId) {
        self.tell(Event::DrainRequested(worker)).await;
    }

    /// Sends workers home that have no job, and those that come later. The coordinator stays.
    pub async fn retire(&self, reason: &str) {
        let reason = reason.to_owned();
        self.tell(Event::Retired { reason }).await;
    }

    /// Asks the coordinator to end: cancels what runs, dismisses the workers.
    pub async fn request_shutdown(&self, reason: &str) {
        let reason = reason.to_owned();
        self.tell(Event::ShutdownRequested { reason }).await;
    }

    async fn tell(&self, event: Event) {
        // A driver that has stopped has nothing left to be told.
        let _ = self.inbox.send(Message::Event(event)).await;
    }
}

/// Writes what waits, and lets the state folder go.
async fn close(records: Option<OpenRecords>) {
    let closing = tokio::task::spawn_blocking(move || drop(records));
    if tokio::time::timeout(RECORDED_WITHIN, closing)
        .await
        .is_err()
    {
        tracing::warn!("the records take too long and are left as they are");
    }
}

/// A job as driver and engine take it.
pub(crate) fn submission(spec: JobSpec) -> Result<Submission, SubmitError> {
    let bounds = spec.recipe.worker_bounds();
    if !bounds.contains(&spec.workers) || spec.workers == 0 {
        return Err(SubmitError::Workers {
            workers: spec.workers,
            min: *bounds.start(),
            max: *bounds.end(),
        });
    }
    let terms = JobTerms {
        id: spec.id.clone(),
        recipe_json: spec.recipe.to_json(),
        priority: spec.priority,
        workers: spec.workers,
        gang: spec.gang.unwrap_or(spec.workers),
        min_workers: *bounds.start(),
        max_workers: *bounds.end(),
        needs: spec.needs.clone(),
        form_within: spec.form_within,
        save_steps: spec.recipe.training.save_steps,
        checkpoints_dir: spec.checkpoints_dir(),
        on_non_finite: spec.on_non_finite,
        resume: spec.resume.clone(),
        continued: None,
    };
    Ok(Submission {
        view: JobView::submitted(&spec, unix_ms()),
        spec,
        terms,
    })
}

/// A submitted job.
#[derive(Debug, Clone)]
pub struct JobHandle {
    /// Its id.
    pub id: JobId,
    coordinator: CoordinatorHandle,
    view: watch::Receiver<JobView>,
}

impl JobHandle {
    /// Asks for the job's end: it finishes the step in hand, writes a checkpoint and ends as cancelled.
    pub async fn cancel(&self) {
        self.coordinator.cancel(self.id.clone()).await;
    }

    /// Asks for another number of workers. Those that are too many are let go without loss, those that are missing are
    /// taken as they come.
    pub async fn scale(&self, workers: u32) {
        self.coordinator.scale(self.id.clone(), workers).await;
    }

    /// Waits for the end; `None` where the coordinator stopped before.
    pub async fn wait(&self) -> Option<JobOutcome> {
        let mut job = self.view.clone();
        let view = job.wait_for(|view| view.outcome.is_some()).await.ok()?;
        view.outcome.clone()
    }
}
