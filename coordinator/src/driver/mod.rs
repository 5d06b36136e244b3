//! The one task that owns the engine: it selects one event, applies it and performs the actions.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

mod log;
mod perform;
mod published;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use tracing::{info, warn};
use weft_common::id::{JobId, Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{Attach, Command, Hello, Refusal, Welcome};

pub(crate) use published::Published;

use crate::engine::{Action, Engine, Event, Job, JobOutcome, Limits, Notice, SubmitRefusal};
use crate::job_io::{JobIo, Ready, Source, Submission, Unready};
use crate::notices::Notices;
use crate::records::Records;
use crate::view::{JobView, WorkerView};

/// Messages that may wait for the driver: a few from each of as many workers as one coordinator is built for.
pub(crate) const INBOX: usize = 2048;

/// Commands that may wait for one worker. The protocol has a handful under way; a worker that lets so many pile up
/// does not read them.
pub(crate) const OUTBOX: usize = 64;

/// Fine enough that a silent worker is noticed within a tenth of a second of its deadline.
const TICK: Duration = Duration::from_millis(100);

/// How long a coordinator that ends waits for the results of its jobs: copies of what is on its disk already.
const RESULTS_WITHIN: Duration = Duration::from_secs(60);

/// How long the end of the ledgers may take to get into their storage.
const LEDGERS_WITHIN: Duration = Duration::from_secs(20);

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
        /// Which submission of that job.
        submission: u64,
        ready: Box<Result<Ready, Unready>>,
    },
    /// A job that is over has left its results, or could not.
    Attended {
        job: JobId,
        /// Which submission of that job.
        submission: u64,
        outcome: Box<JobOutcome>,
    },
}

/// Who submitted.
pub(crate) type SubmitReply = oneshot::Sender<Result<Taken, SubmitRefusal>>;

/// A job that was taken, for who follows it from its submission on.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) notices: Notices,
    pub(crate) view: watch::Receiver<JobView>,
}

/// The owner of the engine.
pub(crate) struct Driver {
    engine: Engine,
    inbox: mpsc::Receiver<Message>,
    /// For what the driver starts itself.
    sender: mpsc::Sender<Message>,
    sessions: HashMap<WorkerId, Session>,
    source: Source,
    term: Term,
    records: Option<Records>,
    /// Those that are not over.
    jobs: BTreeMap<JobId, JobIo>,
    submissions: u64,
    published: Published,
    workers: watch::Sender<Arc<[WorkerView]>>,
    /// The threads of ledgers hold the first half; once all have ended, the second half says so.
    ledgers: (mpsc::Sender<()>, mpsc::Receiver<()>),
    /// Since when the engine has nothing left to do.
    idle: Option<Instant>,
    started: Instant,
    ticks: Interval,
    /// Where it is time for a tick: messages that are heard before it.
    before_tick: Option<usize>,
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
        (source, records): (Source, Option<Records>),
        channel: (mpsc::Sender<Message>, mpsc::Receiver<Message>),
    ) -> (Self, Published) {
        let (workers, workers_seen) = watch::channel(Arc::from(Vec::new()));
        let published = Published::new(workers_seen);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = Self {
            engine: Engine::new(term, limits),
            sender: channel.0,
            inbox: channel.1,
            sessions: HashMap::new(),
            source,
            term,
            records,
            jobs: BTreeMap::new(),
            submissions: 0,
            published: published.clone(),
            workers,
            ledgers: mpsc::channel(1),
            idle: None,
            started: Instant::now(),
            ticks,
            before_tick: None,
        };
        (driver, published)
    }

    /// Runs until the engine has nothing left to do.
    pub(crate) async fn run(mut self) {
        loop {
            let message = self.select().await;
            if self.apply(message) == Flow::Stop {
                self.idle.get_or_insert_with(Instant::now);
            }
            if self.idle.is_some_and(|since| self.is_done(since)) {
                break;
            }
        }
        self.jobs.clear();
        let (ledger, mut ledgers) = self.ledgers;
        drop(ledger);
        if timeout(LEDGERS_WITHIN, ledgers.recv()).await.is_err() {
            warn!("a storage takes too long; the end of a ledger may be missing there");
        }
        info!("coordinator stopped");
    }

    /// Whether the results of all jobs are there, or take too long.
    fn is_done(&self, idle: Instant) -> bool {
        self.jobs.is_empty() || idle.elapsed() >= RESULTS_WITHIN
    }

    /// When time has passed, what had come by then is heard first: a worker is not silent whose words wait here. Nothing
    /// that comes later is, so that a flood of messages cannot hide a silent worker.
    async fn select(&mut self) -> Message {
        if self.before_tick.is_none() {
            tokio::select! {
                biased;
                _ = self.ticks.tick() => self.before_tick = Some(self.inbox.len()),
                message = self.inbox.recv() => {
                    return message.expect("the driver holds a sender of its own inbox");
                }
            }
        }
        let left = self.before_tick.take().and_then(|left| left.checked_sub(1));
        match left.and_then(|left| Some((left, self.inbox.try_recv().ok()?))) {
            Some((left, message)) => {
                self.before_tick = Some(left);
                message
            }
            None => Message::Event(Event::Tick),
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
            Message::Ready {
                job,
                submission,
                ready,
            } => match self.begin(&job, submission, *ready) {
                Some(event) => (event, Owed::Nothing),
                None => return Flow::Continue,
            },
            Message::Attended {
                job,
                submission,
                outcome,
            } => return self.attended(&job, submission, *outcome),
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
        if self.jobs.get(&id).is_some_and(JobIo::is_ending) {
            // To the engine it is over, but its results are still being written.
            let _ = reply.send(Err(SubmitRefusal::Busy { active: id }));
            return Flow::Continue;
        }
        if !self.jobs.contains_key(&id) {
            self.submissions += 1;
            let io = JobIo::new(job, self.submissions);
            self.published.opened(id.clone(), io.view.subscribe());
            self.jobs.insert(id.clone(), io);
        }
        self.feed(Event::Submitted(terms), &mut Owed::Submit(id, reply))
    }

    /// What the engine is told of a job that was prepared; nothing where it ended meanwhile.
    fn begin(
        &mut self,
        job: &JobId,
        submission: u64,
        ready: Result<Ready, Unready>,
    ) -> Option<Event> {
        let waits = self.engine.job(job).is_some_and(Job::is_preparing);
        let io = self.jobs.get_mut(job)?;
        let own = waits && io.number == submission;
        let blocking = self.source.blocking;
        own.then(|| io.begin(ready, blocking, self.sender.clone(), self.ledgers.0.clone()))
    }

    /// The results of a job are there: now it is over for everyone.
    fn attended(&mut self, job: &JobId, submission: u64, outcome: JobOutcome) -> Flow {
        if self.jobs.get(job).is_some_and(|io| io.number == submission) {
            let ended = Notice::Ended(outcome);
            self.ended(job, &ended);
            self.publish(job);
        }
        Flow::Continue
    }

    fn feed(&mut self, event: Event, owed: &mut Owed) -> Flow {
        let now = Timestamp::after_start(self.started.elapsed());
        let mut told = BTreeSet::new();
        if let Event::ScaleRequested { job, workers } = &event {
            self.record_scaled(job, *workers);
            told.insert(job.clone());
        }
        let actions = self.engine.step(event, now);
        let mut flow = Flow::Continue;
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

    fn publish(&mut self, job: &JobId) {
        let Some(io) = self.jobs.get(job) else {
            return;
        };
        if let Some(known) = self.engine.job(job) {
            io.view.send_modify(|view| view.stands(known));
        }
        let over = io.view.borrow().phase.is_over();
        self.record_standing(job);
        if over {
            self.jobs.remove(job);
            self.published.closed(job.clone());
        }
    }
}
