//! Takes the jobs of a queue in: each is looked at, made durable, and only then handed to the engine.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{info, warn};
use weft_common::id::JobId;

use crate::claim::{Claim, Claimed, Claims};
use crate::clock::unix_ms;
use crate::config::{JobSpec, SubmitError, WorkersBefore};
use crate::engine::SubmitRefusal;
use crate::handle::{CoordinatorHandle, submission};
use crate::happening::{Happening, Level};
use crate::queue::{Queue, StartFrom, Unfit};
use crate::records::{JobFile, Records, RecordsError};
use crate::view::JobView;

/// Jobs that are looked at at once: each may prepare a dataset, which takes a core or more.
const LOOKED_AT: usize = 2;

/// Where a queue's jobs come in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reception {
    queue: Queue,
    records: Records,
    looking: Arc<Semaphore>,
    claims: Claims,
}

impl Reception {
    pub(crate) fn new(queue: Queue, records: Records) -> Self {
        Self {
            queue,
            records,
            looking: Arc::new(Semaphore::new(LOOKED_AT)),
            claims: Claims::default(),
        }
    }

    /// Takes in a job that someone hands in.
    pub(crate) async fn take_in(
        &self,
        coordinator: &CoordinatorHandle,
        spec: JobSpec,
        from: StartFrom,
    ) -> Result<JobView, SubmitError> {
        let _claim = self.claim(coordinator, &spec.output_dir)?;
        let spec = self.inspect(spec, from).await?;
        let _own = self.claim_id(coordinator, &spec.id)?;
        let submission = submission(spec)?;
        let view = submission.view.clone();
        let number = self.records.next_number();
        let file = JobFile::of(&submission.spec, number, view.submitted_unix_ms);
        let (records, row) = (self.records.clone(), view.clone());
        let written = spawn_blocking(move || records.submitted(&file, &row)).await;
        let receipt = written
            .unwrap_or(Err(RecordsError::Late))
            .map_err(SubmitError::NotRecorded)?;
        let text = format!(
            "handed in, for {} workers, with priority {}",
            view.workers, view.priority
        );
        let happening = Happening::new(Level::Info, "submitted", text);
        self.records.happened(Some(&view.id), happening);
        match coordinator.hand_in(submission).await {
            Ok(taken) => Ok(taken.view.borrow().clone()),
            Err(error) => {
                let records = self.records.clone();
                // What is left of it ends as soon as it is handed in again.
                let _ = spawn_blocking(move || records.withdrawn(receipt)).await;
                Err(error)
            }
        }
    }

    async fn inspect(&self, spec: JobSpec, from: StartFrom) -> Result<JobSpec, SubmitError> {
        let turn = self.looking.acquire().await;
        let preflight = self.queue.preflight.clone();
        let looked = spawn_blocking(move || preflight.inspect(spec, from)).await;
        drop(turn);
        looked
            .unwrap_or_else(|error| Err(format!("looking at the job ended early: {error}").into()))
            .map_err(SubmitError::Unfit)
    }

    /// Two jobs never share an output folder.
    fn claim(&self, coordinator: &CoordinatorHandle, output: &Path) -> Result<Claim, SubmitError> {
        let claim = self.claims.take(Claimed::Output(output.to_owned()));
        let user = coordinator.published.user_of(output);
        claim.filter(|_| user.is_none()).ok_or(SubmitError::Output {
            output: output.to_owned(),
            job: user,
        })
    }

    /// A job that goes on is handed in once, though its output folder may have been copied.
    fn claim_id(&self, coordinator: &CoordinatorHandle, id: &JobId) -> Result<Claim, SubmitError> {
        let claim = self.claims.take(Claimed::Job(id.clone()));
        let known = coordinator.job(id);
        let open = known.is_some_and(|job| !job.borrow().phase.is_over());
        let busy = SubmitRefusal::Busy { active: id.clone() };
        Ok(claim.filter(|_| !open).ok_or(busy)?)
    }

    /// Hands in again what an earlier coordinator left, in its old order.
    pub(crate) async fn resume(&self, coordinator: &CoordinatorHandle) -> Result<(), RecordsError> {
        let jobs = self.records.unfinished()?;
        if !jobs.is_empty() {
            info!(
                jobs = jobs.len(),
                "going on with the jobs of an earlier start"
            );
        }
        for view in jobs {
            let id = view.id.clone();
            if let Err(error) = self.hand_in_again(coordinator, view.clone()).await {
                warn!(job = %id, %error, "a job cannot go on");
                self.give_up(view, &error);
            }
        }
        Ok(())
    }

    async fn hand_in_again(
        &self,
        coordinator: &CoordinatorHandle,
        view: JobView,
    ) -> Result<(), SubmitError> {
        let (records, id) = (self.records.clone(), view.id.clone());
        let preflight = self.queue.preflight.clone();
        let found = spawn_blocking(move || {
            let file = records.file(&id).map_err(|error| error.to_string())?;
            let spec = file.spec()?;
            match spec.workers_before {
                WorkersBefore::Gone => Ok(spec),
                WorkersBefore::MayReturn => preflight.go_on(spec),
            }
        });
        let found = found.await.unwrap_or_else(|error| Err(error.to_string()));
        let mut submission = submission(found.map_err(Unfit::from)?)?;
        let fresh = &mut submission.view;
        fresh.submitted_unix_ms = view.submitted_unix_ms;
        fresh.started_unix_ms = view.started_unix_ms;
        fresh.incidents = view.incidents;
        fresh.loss = view.loss;
        fresh.total_steps = view.total_steps;
        let text = "handed in again after a restart of the coordinator";
        let happening = Happening::new(Level::Info, "restarted", text);
        self.records.happened(Some(&view.id), happening);
        coordinator.hand_in(submission).await.map(drop)
    }

    /// A job that no coordinator can go on with is over.
    fn give_up(&self, view: JobView, error: &SubmitError) {
        let view = view.given_up(&error.to_string(), unix_ms());
        let happening = Happening::new(Level::Error, "ended", view.detail.clone());
        self.records.happened(Some(&view.id), happening);
        self.records.stands(&view);
    }
}
