//! The one task that owns the engine: it selects one event, applies it and performs the actions.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, info, warn};
use weft_common::failpoint;
use weft_common::id::{Digest, JobId, Step, Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{Attach, Command, DatasetRef, Hello, Refusal, Welcome};

use crate::data_source::DataSource;
use crate::engine::{Action, Engine, Event, Limits, Notice, SubmitRefusal};
use crate::job_io::{JobIo, Ready, Submission, Unready};
use crate::view::{JobView, WorkerView};

/// Messages that may wait for the driver: a few from each of as many workers as one coordinator is built for.
pub(crate) const INBOX: usize = 2048;

/// Commands that may wait for one worker. The protocol has a handful under way; a worker that lets so many pile up
/// does not read them.
pub(crate) const OUTBOX: usize = 64;

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
        reply: SubmitReply,
    },
    /// A job whose turn has come can begin, or cannot.
    Ready {
        job: JobId,
        ready: Box<Result<Ready, Unready>>,
    },
}

/// Who submitted, and follows the job from its submission on.
pub(crate) type SubmitReply = oneshot::Sender<Result<broadcast::Receiver<Notice>, SubmitRefusal>>;

/// What others may look at without asking the driver.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    jobs: Arc<RwLock<BTreeMap<JobId, watch::Receiver<JobView>>>>,
    datasets: Arc<RwLock<HashMap<Digest, DatasetRef>>>,
    workers: watch::Receiver<Arc<[WorkerView]>>,
}

impl Published {
    /// A job, as it is and as it changes.
    pub(crate) fn job(&self, id: &JobId) -> Option<watch::Receiver<JobView>> {
        read(&self.jobs).get(id).cloned()
    }

    /// All jobs as they are, in the order of their ids.
    pub(crate) fn jobs(&self) -> Vec<JobView> {
        let jobs = read(&self.jobs);
        jobs.values().map(|view| view.borrow().clone()).collect()
    }

    /// A prepared dataset that a job uses or used.
    pub(crate) fn dataset(&self, digest: &Digest) -> Option<DatasetRef> {
        read(&self.datasets).get(digest).cloned()
    }

    /// Workers that can be talked to.
    pub(crate) fn workers(&self) -> Arc<[WorkerView]> {
        self.workers.borrow().clone()
    }
}

/// Nobody panics while holding the lock; if somebody did, what is there is still whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// The owner of the engine.
pub(crate) struct Driver {
    engine: Engine,
    inbox: mpsc::Receiver<Message>,
    /// For what the driver starts itself.
    sender: mpsc::Sender<Message>,
    sessions: HashMap<WorkerId, Session>,
    data: Arc<dyn DataSource>,
    term: Term,
    jobs: BTreeMap<JobId, JobIo>,
    published: Published,
    workers: watch::Sender<Arc<[WorkerView]>>,
    started: Instant,
    ticks: Interval,
}

/// The way to a worker.
struct Session {
    number: u32,
    outbox: mpsc::Sender<Command>,
}

/// A reply that the event in hand owes.
enum Owed {
    Nothing,
    Hello(oneshot::Sender<Result<Welcome, Refusal>>),
    Submit(JobId, SubmitReply),
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
        let (workers, workers_seen) = watch::channel(Arc::from(Vec::new()));
        let published = Published {
            jobs: Arc::default(),
            datasets: Arc::default(),
            workers: workers_seen,
        };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = Self {
            engine: Engine::new(term, limits),
            sender: channel.0,
            inbox: channel.1,
            sessions: HashMap::new(),
            data,
            term,
            jobs: BTreeMap::new(),
            published: published.clone(),
            workers,
            started: Instant::now(),
            ticks,
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
            Message::Ready { job, ready } => {
                let inbox = self.sender.clone();
                let Some(io) = self.jobs.get_mut(&job) else {
                    return Flow::Continue;
                };
                (io.begin(*ready, inbox), Owed::Nothing)
            }
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

    fn submit(&mut self, job: Submission, reply: SubmitReply) -> Flow {
        let (id, terms) = (job.terms.id.clone(), job.terms.clone());
        let open = self.engine.job(&id).is_some_and(|job| job.is_active());
        if !open {
            let view = JobView::submitted(&terms);
            let io = JobIo::new(job, view);
            let seen = io.view.subscribe();
            write(&self.published.jobs).insert(id.clone(), seen);
            self.jobs.insert(id.clone(), io);
        }
        self.feed(Event::Submitted(terms), &mut Owed::Submit(id, reply))
    }

    fn feed(&mut self, event: Event, owed: &mut Owed) -> Flow {
        let now = Timestamp::after_start(self.started.elapsed());
        let actions = self.engine.step(event, now);
        let mut flow = Flow::Continue;
        let mut told = BTreeSet::new();
        let mut fleet_changed = false;
        for action in actions {
            if let Action::Notify { job, .. } = &action {
                told.extend(job.clone());
                fleet_changed = true;
            }
            if self.perform(action, owed) == Flow::Stop {
                flow = Flow::Stop;
            }
        }
        for job in told {
            self.publish(&job);
        }
        if fleet_changed {
            let workers = self.engine.workers();
            let views: Vec<WorkerView> = workers.map(WorkerView::of).collect();
            self.workers.send_replace(Arc::from(views));
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
                if let Owed::Submit(job, reply) = std::mem::replace(owed, Owed::Nothing) {
                    self.answer_submit(&job, answer, reply);
                }
            }
            Action::PrepareData(job) => {
                if let Some(io) = self.jobs.get(&job) {
                    io.prepare(self.term, self.data.clone(), self.sender.clone());
                }
            }
            Action::Send { to, command } => self.send(to, command),
            Action::AppendLedger { job, record } => {
                let step = record.step;
                let ledger = self.jobs.get(&job).and_then(|io| io.ledger.as_ref());
                let taken = ledger.is_some_and(|ledger| ledger.append(record));
                if !taken {
                    self.ledger_ended(job, step);
                }
            }
            Action::RewindLedger { job, first_step } => {
                let ledger = self.jobs.get(&job).and_then(|io| io.ledger.as_ref());
                let taken = ledger.is_some_and(|ledger| ledger.rewind(first_step));
                if !taken {
                    self.ledger_ended(job, first_step);
                }
            }
            Action::Hangup(worker) => {
                self.sessions.remove(&worker);
            }
            Action::Notify { job, notice } => self.notify(job.as_ref(), &notice),
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
        if let Some(name) = phase(&command) {
            failpoint::hit(name);
        }
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

    /// Who submitted may be gone; the job runs all the same.
    fn answer_submit(
        &mut self,
        job: &JobId,
        answer: Result<(), SubmitRefusal>,
        reply: SubmitReply,
    ) {
        let answer = answer.and_then(|()| match self.jobs.get(job) {
            Some(io) => Ok(io.notices.subscribe()),
            None => Err(SubmitRefusal::ShuttingDown),
        });
        let refused = !matches!(answer, Err(SubmitRefusal::Busy { .. }) | Ok(_));
        if refused {
            self.jobs.remove(job);
            write(&self.published.jobs).remove(job);
        }
        let _ = reply.send(answer);
    }

    fn notify(&mut self, job: Option<&JobId>, notice: &Notice) {
        log(job, notice);
        if let Notice::Planned { dataset, .. } = notice {
            write(&self.published.datasets).insert(dataset.digest, dataset.clone());
        }
        let Some(io) = job.and_then(|job| self.jobs.get_mut(job)) else {
            // What concerns all is told to those who follow any job.
            for io in self.jobs.values() {
                let _ = io.notices.send(notice.clone());
            }
            return;
        };
        match notice {
            Notice::CheckpointSaved { .. } => io.retain(),
            Notice::Ended(_) => io.ledger = None,
            Notice::Planned { .. }
            | Notice::Admitted
            | Notice::WorkerJoined(_)
            | Notice::WorkerGone { .. }
            | Notice::Waiting(_)
            | Notice::EpochFormed(_)
            | Notice::MemberLost(_)
            | Notice::RolledBack { .. }
            | Notice::StepCommitted(_)
            | Notice::CheckpointFailed { .. }
            | Notice::Draining(_) => {}
        }
        // Nobody may be listening.
        let _ = io.notices.send(notice.clone());
    }

    /// Feeds an event that an action led to, after those that wait already.
    fn later(&self, event: Event) {
        let inbox = self.sender.clone();
        tokio::spawn(async move {
            let _ = inbox.send(Message::Event(event)).await;
        });
    }

    fn publish(&self, job: &JobId) {
        let (Some(known), Some(io)) = (self.engine.job(job), self.jobs.get(job)) else {
            return;
        };
        let view = JobView::of(known);
        io.view
            .send_modify(|published| *published = view.after(published));
    }
}

/// What a test may disturb just before it is sent.
fn phase(command: &Command) -> Option<&'static str> {
    match command {
        Command::Lease(_) => Some("granting"),
        Command::Seal(_) => Some("sealing"),
        Command::Commit(_) => Some("committing"),
        Command::TakeCheckpoint(_) => Some("saving"),
        Command::FetchState(_) => Some("syncing"),
        Command::Prepare(_)
        | Command::FormEpoch(_)
        | Command::Restore(_)
        | Command::Settle(_)
        | Command::Reject(_)
        | Command::EndJob(_)
        | Command::Shutdown { .. } => None,
    }
}

/// Says each fact once.
fn log(job: Option<&JobId>, notice: &Notice) {
    let job = job.map(JobId::as_str);
    match notice {
        Notice::Admitted => info!(job, "job admitted"),
        Notice::WorkerJoined(worker) => info!(%worker, "worker attached"),
        Notice::WorkerGone { worker, cause } => info!(%worker, cause, "worker gone"),
        Notice::Planned { total_steps, .. } => info!(job, total_steps, "dataset prepared"),
        Notice::Waiting(reason) => info!(job, %reason, "job waits"),
        Notice::EpochFormed(epoch) => {
            info!(job, epoch = %epoch.epoch, world = epoch.members.len(), "epoch formed");
        }
        Notice::MemberLost(incident) => info!(
            job,
            worker = %incident.worker,
            cause = %incident.cause,
            step = %incident.step,
            slots_returned = incident.slots_returned,
            left = incident.left,
            "member lost"
        ),
        Notice::RolledBack { from, to } => warn!(job, %from, %to, "back to a checkpoint"),
        Notice::StepCommitted(step) => debug!(
            step = %step.step,
            loss = step.loss,
            control_ms = step.timing.control.as_secs_f64() * 1e3,
            job,
            "step committed"
        ),
        Notice::CheckpointSaved { checkpoint, .. } => {
            info!(job, step = %checkpoint.next_step, dir = %checkpoint.dir.display(), "checkpoint saved");
        }
        Notice::CheckpointFailed {
            checkpoint,
            message,
        } => warn!(job, step = %checkpoint.next_step, message, "checkpoint failed"),
        Notice::Draining(cause) => info!(job, cause, "job drains"),
        Notice::Ended(outcome) => info!(job, %outcome, "job ended"),
    }
}
