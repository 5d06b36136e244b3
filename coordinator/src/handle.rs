//! How the rest of the process talks to a coordinator.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use weft_common::id::{JobId, Step, Term};
use weft_common::ledger::{self, Ledger, LedgerWriter};
use weft_common::wire;

use crate::config::{JobSpec, SubmitError, WorkersBefore};
use crate::driver::{Message, Published, Submission};
use crate::engine::{CommittedSum, Continued, Event, JobOutcome, JobTerms, Notice};
use crate::view::JobView;

/// How long a stopped coordinator waits for peers to close their connections.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Talks to a running coordinator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) published: Published,
    pub(crate) term: Term,
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
    }
}

impl CoordinatorHandle {
    /// Hands in a job. Its notices start with its submission.
    ///
    /// # Errors
    /// Another job is active, the ledger in the output folder is another job's, or the number of workers is not one
    /// that the recipe allows.
    pub async fn submit(&self, spec: JobSpec) -> Result<(JobHandle, Notices), SubmitError> {
        let submission = self.admit(spec).await?;
        let id = submission.terms.id.clone();
        let (reply, answered) = oneshot::channel();
        let message = Message::Submit {
            job: Box::new(submission),
            reply,
        };
        let sent = self.inbox.send(message).await;
        sent.map_err(|_| SubmitError::Stopped)?;
        let notices = answered.await.map_err(|_| SubmitError::Stopped)??;
        let handle = JobHandle {
            id,
            coordinator: self.clone(),
        };
        Ok((handle, Notices { notices }))
    }

    async fn admit(&self, spec: JobSpec) -> Result<Submission, SubmitError> {
        let bounds = spec.recipe.worker_bounds();
        if !bounds.contains(&spec.workers) || spec.workers == 0 {
            return Err(SubmitError::Workers {
                workers: spec.workers,
                min: *bounds.start(),
                max: *bounds.end(),
            });
        }
        let mut terms = JobTerms {
            id: spec.id.clone(),
            recipe_json: spec.recipe.to_json(),
            workers: spec.workers,
            min_workers: *bounds.start(),
            max_workers: *bounds.end(),
            form_within: spec.form_within,
            save_steps: spec.recipe.training.save_steps,
            checkpoints_dir: spec.checkpoints_dir(),
            on_non_finite: spec.on_non_finite,
            resume: spec.resume.clone(),
            continued: None,
        };
        let ledger;
        (ledger, terms.continued) = self.open_ledger(&spec, terms.checkpointed()).await?;
        Ok(Submission {
            ledger,
            retain: spec.save_total_limit(),
            recipe: spec.recipe,
            terms,
        })
    }

    async fn open_ledger(
        &self,
        spec: &JobSpec,
        checkpointed: Step,
    ) -> Result<(LedgerWriter, Option<Continued>), SubmitError> {
        let (folder, job, term) = (spec.ledger_dir(), spec.id.clone(), self.term);
        let workers_before = spec.workers_before;
        let opening = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || match workers_before {
                WorkersBefore::Gone => {
                    let writer = LedgerWriter::open(&folder, job, term, checkpointed)?;
                    Ok((writer, None))
                }
                WorkersBefore::MayReturn => {
                    let (writer, ledger) = LedgerWriter::resume(&folder, job, term)?;
                    Ok((writer, Some(continued(&ledger))))
                }
            }
        });
        let opened = opening.await.map_err(|_| SubmitError::Stopped)?;
        opened.map_err(|source| SubmitError::Ledger { folder, source })
    }

    /// The last job that was submitted, as it is now and as it changes.
    #[must_use]
    pub fn job(&self) -> watch::Receiver<Option<JobView>> {
        self.published.job.clone()
    }

    /// Asks for a job's end: it finishes the step in hand, writes a checkpoint and ends as cancelled.
    pub async fn cancel(&self, job: JobId) {
        self.tell(Event::CancelRequested(job)).await;
    }

    /// Asks for another number of workers for a job.
    pub async fn scale(&self, job: JobId, workers: u32) {
        self.tell(Event::ScaleRequested { job, workers }).await;
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

/// Where a ledger ends.
fn continued(ledger: &Ledger) -> Continued {
    Continued {
        committed: ledger.next_step().unwrap_or(Step(0)),
        last: ledger.last().map(|record| CommittedSum {
            step: record.step,
            digest: record.gradient_digest,
            update: match record.update {
                ledger::Update::Apply => wire::Update::Apply,
                ledger::Update::Skip => wire::Update::Skip,
            },
        }),
    }
}

/// A submitted job.
#[derive(Debug, Clone)]
pub struct JobHandle {
    /// Its id.
    pub id: JobId,
    coordinator: CoordinatorHandle,
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
        let mut job = self.coordinator.job();
        let ended = |view: &Option<JobView>| {
            let own = view.as_ref().filter(|view| view.id == self.id);
            own.is_some_and(|view| view.outcome.is_some())
        };
        let view = job.wait_for(ended).await.ok()?;
        view.as_ref().and_then(|view| view.outcome.clone())
    }
}

/// What a job's people are told, in order.
#[derive(Debug)]
pub struct Notices {
    notices: broadcast::Receiver<Notice>,
}

impl Notices {
    /// The next notice; `None` once the coordinator has stopped. The last one of a job is [`Notice::Ended`].
    ///
    /// A listener that lags thousands of notices behind loses the oldest ones.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            match self.notices.recv().await {
                Ok(notice) => return Some(notice),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "notices lost; the listener is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
