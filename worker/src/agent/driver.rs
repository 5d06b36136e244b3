//! The worker's driver: selects one input, applies it to the machine, performs the actions.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, info};
use weft_common::id::WorkerId;
use weft_common::wire::{Command, Event, Heartbeat};

use super::exit::WorkerExit;
use super::fetch::fetch;
use super::machine::{Action, Input, Machine};
use super::order::{Answer, Order};
use super::session::{self, Session};
use super::setup::{EngineFactory, WorkerConfig};
use super::thread::TrainingThread;
use crate::collective::Cancel;

/// A worker that asked to be let go ends by then: within a pod's usual grace of 60 s.
const LEAVE_WITHIN: Duration = Duration::from_secs(50);

/// How long the end waits for the training thread, which may be in the middle of a micro-batch.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// Answers of the training thread that may wait; it blocks when there are more.
const ANSWERS: usize = 64;

/// Runs a worker until it is dismissed, told to stop, or loses the coordinator.
///
/// `factory` makes the engine of each job, on the training thread.
pub async fn run_worker(config: WorkerConfig, factory: EngineFactory) -> WorkerExit {
    let worker = WorkerId::generate();
    let session = match session::open(&config, worker).await {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    info!(%worker, coordinator = config.coordinator, "attached");
    let (answers, answered) = mpsc::channel(ANSWERS);
    let thread = match TrainingThread::start(worker, factory, config.listen_ip, answers) {
        Ok(thread) => thread,
        Err(error) => {
            let message = format!("cannot start the training thread: {error}");
            return WorkerExit::Broken { message };
        }
    };
    let driver = Driver::new(config, worker, session, thread, answered);
    let exit = driver.run().await;
    info!(%exit, "worker ends");
    exit
}

struct Driver {
    config: WorkerConfig,
    worker: WorkerId,
    session: Session,
    thread: TrainingThread,
    answers: mpsc::Receiver<Answer>,
    /// Datasets that arrived.
    datasets: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    machine: Machine,
    /// Ends what the training thread waits for in the present job.
    cancel: Cancel,
    heartbeats: Interval,
    slots_computed: u64,
    /// When a worker that asked to be let go ends anyway.
    leave_by: Option<Instant>,
}

/// What the driver woke up for.
enum Woken {
    Input(Box<Input>),
    Heartbeat,
}

impl Driver {
    fn new(
        config: WorkerConfig,
        worker: WorkerId,
        session: Session,
        thread: TrainingThread,
        answers: mpsc::Receiver<Answer>,
    ) -> Self {
        let mut heartbeats = tokio::time::interval(session.welcome.heartbeat_every);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            config,
            worker,
            session,
            thread,
            answers,
            datasets: mpsc::channel(1),
            machine: Machine::new(),
            cancel: Cancel::new(),
            heartbeats,
            slots_computed: 0,
            leave_by: None,
        }
    }

    async fn run(mut self) -> WorkerExit {
        let exit = loop {
            let exit = match self.select().await {
                Woken::Heartbeat => self.beat(),
                Woken::Input(input) => self.apply(*input),
            };
            if let Some(exit) = exit {
                break exit;
            }
        };
        self.cancel.cancel();
        drop(self.session);
        drop(self.answers);
        let thread = self.thread.close();
        let joined = tokio::task::spawn_blocking(move || thread.join());
        if tokio::time::timeout(JOIN_WITHIN, joined).await.is_err() {
            debug!("the training thread is still busy; the process ends without it");
        }
        exit
    }

    async fn select(&mut self) -> Woken {
        let leave_by = self.leave_by.unwrap_or_else(far_away);
        let input = tokio::select! {
            biased;
            () = self.config.stop.cancelled(), if self.leave_by.is_none() => {
                self.leave_by = Some(Instant::now() + LEAVE_WITHIN);
                Input::StopRequested
            }
            _ = self.heartbeats.tick() => return Woken::Heartbeat,
            command = self.session.commands.message() => match command {
                Ok(Some(command)) => match Command::try_from(command) {
                    Ok(command) => Input::Command(command),
                    Err(error) => Input::SessionLost(format!("it sent a malformed command: {error}")),
                },
                Ok(None) => Input::SessionLost("it closed the session".to_owned()),
                Err(status) => Input::SessionLost(status.message().to_owned()),
            },
            answer = self.answers.recv() => answer.map_or(Input::ThreadLost, Input::Answer),
            dataset = self.datasets.1.recv() => match dataset {
                Some(dataset) => dataset,
                None => Input::ThreadLost,
            },
            () = tokio::time::sleep_until(leave_by) => Input::LeaveOverdue,
        };
        Woken::Input(Box::new(input))
    }

    fn apply(&mut self, input: Input) -> Option<WorkerExit> {
        if let Input::Answer(Answer::Done(Event::SlotDone(_))) = &input {
            self.slots_computed += 1;
        }
        let actions = self.machine.step(input);
        actions.into_iter().find_map(|action| self.perform(action))
    }

    fn perform(&mut self, action: Action) -> Option<WorkerExit> {
        match action {
            Action::Send(event) => self.send(event),
            Action::Train(order) => {
                if let Order::Load(_) = &order {
                    self.cancel = Cancel::new();
                }
                let taken = self.thread.order(order, &self.cancel);
                (!taken).then(|| WorkerExit::Broken {
                    message: "the training thread takes no orders".to_owned(),
                })
            }
            Action::Fetch { job, dataset } => {
                let fetching = fetch(
                    self.session.client.clone(),
                    dataset,
                    self.config.cache_dir.clone(),
                    self.worker,
                );
                let arrived = self.datasets.0.clone();
                tokio::spawn(async move {
                    let found = fetching.await;
                    // A driver that has ended waits for no dataset.
                    let _ = arrived.send(Input::Dataset { job, found }).await;
                });
                None
            }
            Action::CancelJob => {
                self.cancel.cancel();
                None
            }
            Action::Exit(exit) => Some(exit),
        }
    }

    fn send(&mut self, event: Event) -> Option<WorkerExit> {
        let sent = self.session.outbox.try_send(event);
        sent.is_err().then(|| WorkerExit::CoordinatorLost {
            message: "it takes no more events".to_owned(),
        })
    }

    fn beat(&mut self) -> Option<WorkerExit> {
        self.send(Event::Heartbeat(Heartbeat {
            slots_computed: self.slots_computed,
            peak_resident_bytes: peak_resident_bytes(),
        }))
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Peak resident memory of this process, as the kernel accounts for it; 0 where it does not say.
fn peak_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
