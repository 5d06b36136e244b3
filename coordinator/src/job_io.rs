//! What the driver keeps of one job: its disk, and those who follow it.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::warn;
use weft_common::id::{JobId, Step, Term};
use weft_common::ledger::{self, Ledger, LedgerError, LedgerWriter};
use weft_common::recipe::Recipe;
use weft_common::wire;

use crate::clock::unix_ms;
use crate::config::WorkersBefore;
use crate::data_source::{DataSource, run_data};
use crate::driver::Message;
use crate::engine::{CommittedSum, Continued, Event, JobTerms, RunData};
use crate::ledger_thread::LedgerThread;
use crate::notices::Followers;
use crate::view::JobView;

/// A job with everything that its run needs on this side.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) terms: JobTerms,
    pub(crate) recipe: Recipe,
    pub(crate) output_dir: PathBuf,
    pub(crate) ledger_dir: PathBuf,
    pub(crate) workers_before: WorkersBefore,
    pub(crate) retain: Option<NonZeroU32>,
}

/// What the driver keeps of one job.
#[derive(Debug)]
pub(crate) struct JobIo {
    submission: Submission,
    /// Counts submissions: a job may be handed in again once it is over.
    pub(crate) number: u64,
    /// Once the job's turn has come.
    pub(crate) ledger: Option<LedgerThread>,
    /// For those who follow the job.
    pub(crate) followers: Followers,
    /// As it is now.
    pub(crate) view: watch::Sender<JobView>,
}

/// A job whose turn has come, ready to begin.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) writer: LedgerWriter,
    pub(crate) continued: Option<Continued>,
    pub(crate) data: RunData,
}

/// Why a job cannot begin.
#[derive(Debug)]
pub(crate) enum Unready {
    Data(String),
    Ledger(String),
}

impl JobIo {
    pub(crate) fn new(submission: Submission, number: u64) -> Self {
        let output_dir = submission.output_dir.clone();
        let view = JobView::submitted(&submission.terms, output_dir, unix_ms());
        Self {
            submission,
            number,
            ledger: None,
            followers: Followers::default(),
            view: watch::Sender::new(view),
        }
    }

    pub(crate) const fn id(&self) -> &JobId {
        &self.submission.terms.id
    }

    /// Opens the ledger and prepares the data, on a thread of its own.
    pub(crate) fn prepare(
        &self,
        term: Term,
        source: Arc<dyn DataSource>,
        inbox: mpsc::Sender<Message>,
    ) {
        let (own, submission) = (&self.submission, self.number);
        let job = own.terms.id.clone();
        let (recipe, folder) = (own.recipe.clone(), own.ledger_dir.clone());
        let (start, before) = (own.terms.checkpointed(), own.workers_before);
        std::thread::spawn(move || {
            let ready = run_data(&*source, &recipe).map_err(Unready::Data);
            let ready = ready.and_then(|data| {
                let opened = match before {
                    WorkersBefore::Gone => open(&folder, &job, term, start),
                    WorkersBefore::MayReturn => go_on(&folder, &job, term, start),
                };
                let at = |error| {
                    format!(
                        "cannot go on with the ledger in {}: {error}",
                        folder.display()
                    )
                };
                let (writer, continued) = opened.map_err(|error| Unready::Ledger(at(error)))?;
                Ok(Ready {
                    writer,
                    continued,
                    data,
                })
            });
            let ready = Box::new(ready);
            // The driver may have stopped meanwhile.
            let _ = inbox.blocking_send(Message::Ready {
                job,
                submission,
                ready,
            });
        });
    }

    /// Takes over what was prepared; what the engine is told.
    pub(crate) fn begin(
        &mut self,
        ready: Result<Ready, Unready>,
        inbox: mpsc::Sender<Message>,
    ) -> Event {
        let job = self.submission.terms.id.clone();
        match ready {
            Ok(ready) => {
                let thread = LedgerThread::start(job.clone(), ready.writer, inbox);
                self.ledger = Some(thread);
                Event::DataPrepared {
                    job,
                    data: Arc::new(ready.data),
                    continued: ready.continued,
                }
            }
            Err(Unready::Data(message)) => Event::DataFailed { job, message },
            Err(Unready::Ledger(message)) => Event::LedgerFailed {
                job,
                step: self.submission.terms.checkpointed(),
                message,
            },
        }
    }

    /// Removes old checkpoints, where the recipe limits their number.
    pub(crate) fn retain(&self) {
        let Some(limit) = self.submission.retain else {
            return;
        };
        let dir = self.submission.terms.checkpoints_dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = weft_common::checkpoint::retain(&dir, limit) {
                warn!(%error, "old checkpoints stay");
            }
        });
    }
}

type Opened = Result<(LedgerWriter, Option<Continued>), LedgerError>;

fn open(folder: &std::path::Path, job: &JobId, term: Term, start: Step) -> Opened {
    let writer = LedgerWriter::open(folder, job.clone(), term, start)?;
    Ok((writer, None))
}

/// Where the ledger is behind the checkpoint there is nothing of it to go on with.
fn go_on(folder: &std::path::Path, job: &JobId, term: Term, start: Step) -> Opened {
    let (writer, ledger) = LedgerWriter::resume(folder, job.clone(), term)?;
    let continued = continued(&ledger);
    if continued.committed < start {
        return Err(LedgerError::Order {
            folder: folder.to_owned(),
            expected: continued.committed,
            found: start,
        });
    }
    Ok((writer, Some(continued)))
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
