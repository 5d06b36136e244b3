//! The one task that owns the engine: it selects one event, applies it and performs the actions.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, info, warn};
use weft_common::id::{JobId, Step, Term, WorkerId};
use weft_common::ledger::LedgerWriter;
use weft_common::recipe::Recipe;
use weft_common::time::Timestamp;
use weft_common::wire::{Attach, Command, DatasetRef, Hello, Refusal, Welcome};

use crate::data_source::{DataSource, run_data};
use crate::engine::{Action, Engine, Event, JobTerms, Limits, Notice, SubmitRefusal};
use crate::ledger_thread::LedgerThread;
use crate::view::JobView;

/// Messages that may wait for the driver: a few from each of as many workers as one coordinator is built for.
pub(crate) const INBOX: usize = 2048;

/// Commands that may wait for one worker. The protocol has a handful under way; a worker that lets so many pile up
/// does not read them.
pub(crate) const OUTBOX: usize = 64;

/// Notices that a slow listener may lag behind.
const NOTICES: usize = 4096;

/// Fine enough that a silent worker is noticed within a tenth of a second of its deadline.
const TICK: Duration = Duration::from_millis(100);

/// What reaches the driver.
#[derive(Debug)]
pub(crate) enum Message {
    /// An event as it is.
    Event(Event),
    /// A worker introduces itself.
    Register {
        hello: Hello,
        ip: IpAddr,
        reply: oneshot::Sender<Result<Welcome, Refusal>>,
    },
    /// A worker opens its session.
    Attach {
        attach: Box<Attach>,
        outbox: mpsc::Sender<Command>,
    },
    /// A job is handed in.
    Submit {
        job: Box<Submission>,
        reply: oneshot::Sender<Result<broadcast::Receiver<Notice>, SubmitRefusal>>,
    },
}

/// A job with everything that its run needs on this side.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) terms: JobTerms,
    pub(crate) recipe: Recipe,
    pub(crate) ledger: LedgerWriter,
    pub(crate) retain: Option<NonZeroU32>,
}

/// What others may look at without asking the driver.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) job: watch::Receiver<Option<JobView>>,
    pub(crate) dataset: watch::Receiver<Option<DatasetRef>>,
}

/// The owner of the engine.
pub(crate) struct Driver {
    engine: Engine,
    inbox: mpsc::Receiver<Message>,
    /// For what the driver starts itself.
    sender: mpsc::Sender<Message>,
    sessions: HashMap<WorkerId, Session>,
    data: Arc<dyn DataSource>,
    job: Option<JobIo>,
    notices: broadcast::Sender<Notice>,
    view: watch::Sender<Option<JobView>>,
    dataset: watch::Sender<Option<DatasetRef>>,
    started: Instant,
    ticks: Interval,
}

/// The way to a worker.
struct Session {
    number: u32,
    outbox: mpsc::Sender<Command>,
}

/// The present job's disk.
struct JobIo {
    recipe: Recipe,
    ledger: LedgerThread,
    checkpoints_dir: PathBuf,
    retain: Option<NonZeroU32>,
}

/// A reply that the event in hand owes.
enum Owed {
    Nothing,
    Hello(oneshot::Sender<Result<Welcome, Refusal>>),
    Submit(oneshot::Sender<Result<broadcast::Receiver<Notice>, SubmitRefusal>>),
}

/// Whether the driver goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl Driver {
    /// A driver and what others may look at.
    pub(crate) fn new(
        term: Term,
        limits: Limits,
        data: Arc<dyn DataSource>,
        channel: (mpsc::Sender<Message>, mpsc::Receiver<Message>),
    ) -> (Self, Published) {
        let (view, job) = watch::channel(None);
        let (dataset, dataset_seen) = watch::channel(None);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = Self {
            engine: Engine::new(term, limits),
            sender: channel.0,
            inbox: channel.1,
            sessions: HashMap::new(),
            data,
            job: None,
            notices: broadcast::channel(NOTICES).0,
            view,
            dataset,
            started: Instant::now(),
            ticks,
        };
        let published = Published {
            job,
            dataset: dataset_seen,
        };
        (driver, published)
    }

    /// Runs until the engine has nothing left to do.
    pub(crate) async fn run(mut self) {
        loop {
            let message = self.select().await;
            if self.apply(message) == Flow::Stop {
                info!("coordinator stopped");
                return;
            }
        }
    }

    /// Time comes first, so that a flood of messages cannot hide a silent worker.
    async fn select(&mut self) -> Message {
        tokio::select! {
            biased;
            _ = self.ticks.tick() => Message::Event(Event::Tick),
            message = self.inbox.recv() => {
                message.expect("the driver holds a sender of its own inbox")
            }
        }
    }

    fn apply(&mut self, message: Message) -> Flow {
        let (event, mut owed) = match message {
            Message::Event(event) => (event, Owed::Nothing),
            Message::Register { hello, ip, reply } => {
                (Event::Registered { hello, ip }, Owed::Hello(reply))
            }
            Message::Attach { attach, outbox } => (self.attach(*attach, outbox), Owed::Nothing),
            Message::Submit { job, reply } => return self.submit(*job, reply),
        };
        self.feed(event, &mut owed)
    }

    /// The newest session of a worker is the one that is talked to.
    fn attach(&mut self, attach: Attach, outbox: mpsc::Sender<Command>) -> Event {
        let (worker, number) = (attach.worker, attach.session);
        let newest = self
            .sessions
            .get(&worker)
            .is_none_or(|own| own.number < number);
        if newest {
            self.sessions.insert(worker, Session { number, outbox });
        }
        Event::Attached {
            worker,
            session: number,
            holding: attach.holding.map(Box::new),
        }
    }

    fn submit(
        &mut self,
        job: Submission,
        reply: oneshot::Sender<Result<broadcast::Receiver<Notice>, SubmitRefusal>>,
    ) -> Flow {
        let active = self.engine.job().is_some_and(|job| job.is_active());
        if !active {
            let ledger = LedgerThread::start(job.terms.id.clone(), job.ledger, self.sender.clone());
            self.job = Some(JobIo {
                recipe: job.recipe,
                ledger,
                checkpoints_dir: job.terms.checkpoints_dir.clone(),
                retain: job.retain,
            });
        }
        self.feed(Event::Submitted(job.terms), &mut Owed::Submit(reply))
    }

    fn feed(&mut self, event: Event, owed: &mut Owed) -> Flow {
        let now = Timestamp::after_start(self.started.elapsed());
        let actions = self.engine.step(event, now);
        let mut flow = Flow::Continue;
        let mut told = false;
        for action in actions {
            told |= matches!(action, Action::Notify(_) | Action::AnswerSubmit(Ok(())));
            if self.perform(action, owed) == Flow::Stop {
                flow = Flow::Stop;
            }
        }
        if told {
            self.publish();
        }
        flow
    }

    fn perform(&mut self, action: Action, owed: &mut Owed) -> Flow {
        match action {
            Action::AnswerHello(answer) => {
                if let Err(refusal) = &answer {
                    warn!(%refusal, "worker refused");
                }
                if let Owed::Hello(reply) = std::mem::replace(owed, Owed::Nothing) {
                    // The worker may have hung up meanwhile; its registration lapses.
                    let _ = reply.send(answer);
                }
            }
            Action::AnswerSubmit(answer) => {
                if let Owed::Submit(reply) = std::mem::replace(owed, Owed::Nothing) {
                    // Who submitted may be gone; the job runs all the same.
                    let _ = reply.send(answer.map(|()| self.notices.subscribe()));
                }
            }
            Action::PrepareData(job) => self.prepare_data(job),
            Action::Send { to, command } => self.send(to, command),
            Action::AppendLedger { job, record } => {
                let step = record.step;
                let taken = self.job.as_ref().is_some_and(|io| io.ledger.append(record));
                if !taken {
                    self.ledger_ended(job, step);
                }
            }
            Action::RewindLedger { job, first_step } => {
                let taken = self
                    .job
                    .as_ref()
                    .is_some_and(|io| io.ledger.rewind(first_step));
                if !taken {
                    self.ledger_ended(job, first_step);
                }
            }
            Action::Hangup(worker) => {
                self.sessions.remove(&worker);
            }
            Action::Notify(notice) => self.notify(notice),
            Action::Stop => return Flow::Stop,
        }
        Flow::Continue
    }

    fn send(&mut self, to: WorkerId, command: Command) {
        if let Command::Reject(reject) = &command {
            warn!(worker = %to, round = %reject.round, reason = %reject.reason, "report refused");
        }
        let Some(session) = self.sessions.get(&to) else {
            return;
        };
        if session.outbox.try_send(command).is_err() {
            let session = session.number;
            self.sessions.remove(&to);
            self.later(Event::SessionLost {
                worker: to,
                session,
                cause: "it does not read its commands".to_owned(),
            });
        }
    }

    fn ledger_ended(&self, job: JobId, step: Step) {
        let message = "the ledger's thread has ended".to_owned();
        self.later(Event::LedgerFailed { job, step, message });
    }

    fn prepare_data(&self, job: JobId) {
        let Some(io) = &self.job else { return };
        let (source, recipe, inbox) = (self.data.clone(), io.recipe.clone(), self.sender.clone());
        std::thread::spawn(move || {
            let event = match run_data(&*source, &recipe) {
                Ok(data) => Event::DataPrepared {
                    job,
                    data: Arc::new(data),
                },
                Err(message) => Event::DataFailed { job, message },
            };
            // The driver may have stopped meanwhile.
            let _ = inbox.blocking_send(Message::Event(event));
        });
    }

    fn notify(&mut self, notice: Notice) {
        log(&notice);
        match &notice {
            Notice::Planned { dataset, .. } => {
                self.dataset.send_replace(Some(dataset.clone()));
            }
            Notice::CheckpointSaved { .. } => self.retain(),
            Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Waiting(_)
            | Notice::EpochFormed(_)
            | Notice::MemberLost(_)
            | Notice::RolledBack { .. }
            | Notice::StepCommitted(_)
            | Notice::CheckpointFailed { .. }
            | Notice::Draining(_)
            | Notice::Ended(_) => {}
        }
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }

    /// Removes old checkpoints, where the recipe limits their number.
    fn retain(&self) {
        let Some((dir, limit)) = self
            .job
            .as_ref()
            .and_then(|io| Some((io.checkpoints_dir.clone(), io.retain?)))
        else {
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = weft_common::checkpoint::retain(&dir, limit) {
                warn!(%error, "old checkpoints stay");
            }
        });
    }

    /// Feeds an event that an action led to, after those that wait already.
    fn later(&self, event: Event) {
        let inbox = self.sender.clone();
        tokio::spawn(async move {
            let _ = inbox.send(Message::Event(event)).await;
        });
    }

    fn publish(&self) {
        let view = self.engine.job().map(JobView::of);
        self.view.send_modify(|published| {
            *published = match (view, published.take()) {
                (Some(view), Some(before)) => Some(view.after(&before)),
                (view, before) => view.or(before),
            };
        });
    }
}

/// Says each fact once.
fn log(notice: &Notice) {
    match notice {
        Notice::WorkerJoined(worker) => info!(%worker, "worker attached"),
        Notice::WorkerGone { worker, cause } => info!(%worker, cause, "worker gone"),
        Notice::Planned { total_steps, .. } => info!(total_steps, "dataset prepared"),
        Notice::Waiting(reason) => info!(%reason, "job waits"),
        Notice::EpochFormed(epoch) => {
            info!(epoch = %epoch.epoch, world = epoch.members.len(), "epoch formed");
        }
        Notice::MemberLost(incident) => warn!(
            worker = %incident.worker,
            cause = %incident.cause,
            step = %incident.step,
            slots_returned = incident.slots_returned,
            left = incident.left,
            "member lost"
        ),
        Notice::RolledBack { from, to } => warn!(%from, %to, "back to a checkpoint"),
        Notice::StepCommitted(step) => debug!(
            step = %step.step,
            loss = step.loss,
            control_ms = step.timing.control.as_secs_f64() * 1e3,
            "step committed"
        ),
        Notice::CheckpointSaved { checkpoint, .. } => {
            info!(step = %checkpoint.next_step, dir = %checkpoint.dir.display(), "checkpoint saved");
        }
        Notice::CheckpointFailed {
            checkpoint,
            message,
        } => warn!(step = %checkpoint.next_step, message, "checkpoint failed"),
        Notice::Draining(cause) => info!(cause, "job drains"),
        Notice::Ended(outcome) => info!(%outcome, "job ended"),
    }
}
