//! What the driver keeps of one job: its disk, and those who follow it.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::warn;
use weft_common::id::{JobId, Step, Term};
use weft_common::ledger::{self, Ledger, LedgerError, LedgerShipper, LedgerWriter};
use weft_common::wire;

use crate::attendance::attend;
use crate::blocking::Blocking;
use crate::config::{JobSpec, WorkersBefore};
use crate::data_source::{DataSource, run_data};
use crate::driver::Message;
use crate::engine::{CommittedSum, Continued, Event, JobTerms, RunData};
use crate::ledger_thread::{LedgerThread, Writing};
use crate::notices::Followers;
use crate::queue::{Attend, Attendant};
use crate::shared_ledger::SharedLedger;
use crate::view::{JobView, Standing};

/// A job with everything that its run needs on this side.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) spec: JobSpec,
    pub(crate) terms: JobTerms,
    /// As it is when it is handed in.
    pub(crate) view: JobView,
}

/// What the driver keeps of one job.
#[derive(Debug)]
pub(crate) struct JobIo {
    submission: Submission,
    /// Counts submissions: a job may be handed in again once it is over.
    pub(crate) number: u64,
    /// Once the job's turn has come.
    pub(crate) ledger: Option<LedgerThread>,
    /// Steps of one pass over the data; 0 until that is prepared.
    pub(crate) steps_per_epoch: u64,
    /// What the records know of how it stands.
    pub(crate) recorded: Option<Standing>,
    /// Whether it has an attendant.
    attendance: Attendance,
    /// For those who follow the job.
    pub(crate) followers: Followers,
    /// As it is now.
    pub(crate) view: watch::Sender<JobView>,
}

/// Who leaves a job's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attendance {
    /// Nobody of this crate.
    None,
    /// Its attendant follows it.
    Follows,
    /// It is over, and its attendant leaves the results.
    Leaves,
}

/// Where what a job needs comes from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) data: Arc<dyn DataSource>,
    pub(crate) attend: Option<Arc<dyn Attend>>,
    pub(crate) blocking: Blocking,
}

/// A job whose turn has come, ready to begin.
pub(crate) struct Ready {
    pub(crate) writer: LedgerWriter,
    pub(crate) continued: Option<Continued>,
    pub(crate) data: RunData,
    /// Its storage, where it has one.
    pub(crate) shared: Option<SharedLedger>,
    pub(crate) attendant: Option<Box<dyn Attendant>>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// Why a job cannot begin.
#[derive(Debug)]
pub(crate) enum Unready {
    Data(String),
    Ledger(String),
}

impl JobIo {
    pub(crate) fn new(submission: Submission, number: u64) -> Self {
        let view = submission.view.clone();
        Self {
            submission,
            number,
            ledger: None,
            steps_per_epoch: 0,
            recorded: None,
            attendance: Attendance::None,
            followers: Followers::default(),
            view: watch::Sender::new(view),
        }
    }

    pub(crate) const fn id(&self) -> &JobId {
        &self.submission.terms.id
    }

    /// Claims the job in its storage, opens the ledger and prepares the data.
    pub(crate) fn prepare(&self, term: Term, source: Source, inbox: mpsc::Sender<Message>) {
        let (own, submission) = (&self.submission, self.number);
        let job = own.terms.id.clone();
        let (spec, folder) = (own.spec.clone(), own.spec.ledger_dir());
        let (start, before) = (own.terms.checkpointed(), own.spec.workers_before);
        let is_queue = source.attend.is_some();
        source.blocking.spawn(inbox, move || {
            let attendant = source.attend.map(|attend| attend.open(&spec)).transpose();
            let data = attendant.and_then(|attendant| {
                let data = run_data(&*source.data, &spec.recipe)?;
                Ok((attendant, data))
            });
            let data = data.map_err(Unready::Data);
            let ready = data.and_then(|(attendant, data)| {
                let unshared = |error: String| {
                    Unready::Ledger(format!("cannot take the job over in its storage: {error}"))
                };
                let shared = SharedLedger::claim(&spec.recipe, &job, term)
                    .map_err(|error| unshared(error.to_string()))?;
                if let Some(shared) = &shared {
                    let fetched = shared.fetch_missing(&folder);
                    fetched.map_err(|error| unshared(error.to_string()))?;
                }
                let opened = match before {
                    WorkersBefore::Gone if is_queue => open_again(&folder, &job, term, start),
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
                    shared,
                    attendant,
                })
            });
            let ready = Box::new(ready);
            Message::Ready {
                job,
                submission,
                ready,
            }
        });
    }

    /// Takes over what was prepared; what the engine is told.
    pub(crate) fn begin(
        &mut self,
        ready: Result<Ready, Unready>,
        blocking: Blocking,
        inbox: mpsc::Sender<Message>,
        until_done: mpsc::Sender<()>,
    ) -> Event {
        let job = self.submission.terms.id.clone();
        match ready {
            Ok(ready) => {
                let shipper = match self.ship(ready.shared, inbox.clone()) {
                    Ok(shipper) => shipper,
                    Err(error) => return self.no_ledger(error.to_string()),
                };
                let writing = Writing {
                    job: job.clone(),
                    writer: ready.writer,
                    shipper,
                    inbox: inbox.clone(),
                };
                self.ledger = Some(LedgerThread::start(writing, blocking, until_done));
                if let Some(attendant) = ready.attendant {
                    self.attendance = Attendance::Follows;
                    let notices = self.followers.add();
                    attend((job.clone(), self.number), attendant, notices, inbox);
                }
                Event::DataPrepared {
                    job,
                    data: Arc::new(ready.data),
                    continued: ready.continued,
                }
            }
            Err(Unready::Data(message)) => Event::DataFailed { job, message },
            Err(Unready::Ledger(message)) => self.no_ledger(message),
        }
    }

    fn ship(
        &self,
        shared: Option<SharedLedger>,
        inbox: mpsc::Sender<Message>,
    ) -> std::io::Result<Option<LedgerShipper>> {
        let folder = self.submission.spec.ledger_dir();
        let shipper = shared.map(|shared| shared.ship(folder, inbox));
        shipper.transpose()
    }

    fn no_ledger(&self, message: String) -> Event {
        Event::LedgerFailed {
            job: self.submission.terms.id.clone(),
            step: self.submission.terms.checkpointed(),
            message,
        }
    }

    /// The job is over: whether its attendant leaves the results now.
    pub(crate) fn leave_results(&mut self) -> bool {
        if self.attendance == Attendance::None {
            return false;
        }
        self.attendance = Attendance::Leaves;
        self.ledger = None;
        self.view.send_modify(JobView::ending);
        true
    }

    /// Whether it is over but for its results.
    pub(crate) fn is_ending(&self) -> bool {
        self.attendance == Attendance::Leaves
    }

    /// Removes old checkpoints, where the recipe limits their number.
    pub(crate) fn retain(&self) {
        let Some(limit) = self.submission.spec.save_total_limit() else {
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

/// A queue may have run the job before in this very term.
fn open_again(folder: &std::path::Path, job: &JobId, term: Term, start: Step) -> Opened {
    let writer = LedgerWriter::open_again(folder, job.clone(), term, start)?;
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
