//! The worker's driver: selects one input, applies it to the machine, performs the actions.

mod outside;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tracing::{debug, info};
use weft_common::id::WorkerId;
use weft_common::wire::{Command, Event, Heartbeat};

use self::outside::Outside;
use super::exit::WorkerExit;
use super::machine::{Action, Input, Machine, Scope};
use super::order::{Answer, Order};
use super::peer::{self, PeerServer};
use super::session;
use super::setup::{EngineFactory, WorkerConfig};
use super::thread::{Place, TrainingThread};
use super::tokens::Tokens;
use super::watchdog::{LOOK_EVERY, Watchdog};

/// A worker that asked to be let go ends by then: within a pod's usual grace of 60 s.
const LEAVE_WITHIN: Duration = Duration::from_secs(50);

/// How long the end waits for the training thread, which may be in the middle of a micro-batch.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// Answers of the training thread that may wait; it blocks when there are more.
const ANSWERS: usize = 64;

/// Runs a worker until it is dismissed, told to stop, or has lost the coordinator for too long.
///
/// `factory` makes the engine of each job, on the training thread.
pub async fn run_worker(config: WorkerConfig, factory: EngineFactory) -> WorkerExit {
    let worker = WorkerId::generate();
    let exit = match Driver::start(config, worker, factory).await {
        Ok((driver, first)) => driver.run(first).await,
        Err(exit) => exit,
    };
    info!(%exit, "worker ends");
    exit
}

struct Driver {
    machine: Machine,
    thread: TrainingThread,
    /// Ends when dropped.
    server: PeerServer,
    answers: mpsc::Receiver<Answer>,
    /// What ends the training thread's work.
    tokens: Tokens,
    /// Sessions, datasets, copies.
    outside: Outside,
    slots_computed: u64,
    watchdog: Watchdog,
    looks: Interval,
    /// When a worker that asked to be let go ends anyway.
    leave_by: Option<Instant>,
}

/// What the driver woke up for.
enum Woken {
    Input(Box<Input>),
    Heartbeat,
    /// It is time to look at the training thread.
    Look,
}

impl Driver {
    async fn start(
        config: WorkerConfig,
        worker: WorkerId,
        factory: EngineFactory,
    ) -> Result<(Self, Vec<Action>), WorkerExit> {
        let endpoint =
            session::endpoint(&config).map_err(|message| WorkerExit::Unreachable { message })?;
        let broken = |what: &str, error: std::io::Error| WorkerExit::Broken {
            message: format!("cannot {what}: {error}"),
        };
        let serve = |error| broken("listen for peers", error);
        let listener = peer::bind(config.listen_ip).await.map_err(serve)?;
        let place = Place {
            worker,
            listen_ip: config.listen_ip,
            peer_port: listener.local_addr().map_err(serve)?.port(),
        };
        let (sender, answers) = mpsc::channel(ANSWERS);
        let thread = TrainingThread::start(place, factory, sender)
            .map_err(|error| broken("start the training thread", error))?;
        let watchdog = Watchdog::new(thread.work(), config.hang_after, now());
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let server = PeerServer::start(listener, thread.state(), config.cache_dir.clone());
        let (machine, first) = Machine::start();
        let driver = Self {
            machine,
            thread,
            server,
            answers,
            tokens: Tokens::default(),
            outside: Outside::new(config, endpoint, worker),
            slots_computed: 0,
            watchdog,
            looks,
            leave_by: None,
        };
        Ok((driver, first))
    }

    async fn run(mut self, first: Vec<Action>) -> WorkerExit {
        let mut exit = self.perform_all(first);
        let exit = loop {
            if let Some(exit) = exit {
                break exit;
            }
            exit = match self.select().await {
                Woken::Heartbeat => self.beat(),
                Woken::Look => self.look(),
                Woken::Input(input) => self.apply(*input),
            };
        };
        self.end(exit).await
    }

    /// Waits for the training thread, which may be busy; where it turns out to hang, that is how the worker ends.
    async fn end(mut self, exit: WorkerExit) -> WorkerExit {
        self.tokens.cancel(Scope::Job);
        drop(self.outside);
        drop(self.server);
        drop(self.answers);
        let thread = self.thread.close();
        let mut joined = tokio::task::spawn_blocking(move || thread.join());
        let join_by = Instant::now() + JOIN_WITHIN;
        loop {
            tokio::select! {
                _ = &mut joined => return exit,
                _ = self.looks.tick() => {
                    if let Some(hung) = self.watchdog.look(now(), true) {
                        return WorkerExit::Hung { message: hung.to_string() };
                    }
                }
                () = tokio::time::sleep_until(join_by) => {
                    debug!("the training thread is still busy; the process ends without it");
                    return exit;
                }
            }
        }
    }

    async fn select(&mut self) -> Woken {
        let leave_by = self.leave_by.unwrap_or_else(far_away);
        let stop = self.outside.config.stop.clone();
        let input = tokio::select! {
            biased;
            _ = self.looks.tick() => return Woken::Look,
            () = stop.cancelled(), if self.leave_by.is_none() => {
                self.leave_by = Some(Instant::now() + LEAVE_WITHIN);
                Input::StopRequested
            }
            answer = self.answers.recv() => answer.map_or(Input::ThreadLost, Input::Answer),
            woken = self.outside.next() => return woken,
            () = tokio::time::sleep_until(leave_by) => Input::LeaveOverdue,
        };
        Woken::Input(Box::new(input))
    }

    /// Performing may make further inputs: a session that takes no more events has ended.
    fn apply(&mut self, input: Input) -> Option<WorkerExit> {
        if let Input::Answer(Answer::Done(Event::SlotDone(done))) = &input {
            self.slots_computed += 1;
            self.watchdog.computed(done.elapsed);
        }
        let actions = self.machine.step(input);
        self.perform_all(actions)
    }

    fn perform_all(&mut self, actions: Vec<Action>) -> Option<WorkerExit> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match self.perform(action) {
                Performed::Done => {}
                Performed::Exit(exit) => return Some(exit),
                Performed::SessionLost(why) => {
                    actions.extend(self.machine.step(Input::SessionLost(why)));
                }
            }
        }
        None
    }

    fn perform(&mut self, action: Action) -> Performed {
        match action {
            Action::Connect(asked) => self.outside.connect(asked),
            Action::Send(event) => return self.send(event),
            Action::Train(order) => return self.train(order),
            Action::Fetch { job, dataset } => self.outside.fetch(job, dataset),
            Action::Copy(wanted) => self.outside.copy(wanted),
            Action::Cancel(scope) => {
                self.tokens.cancel(scope);
                self.outside.cancel(scope);
            }
            Action::Exit(exit) => return Performed::Exit(exit),
        }
        Performed::Done
    }

    fn train(&mut self, order: Order) -> Performed {
        if self.thread.order(order, &self.tokens) {
            return Performed::Done;
        }
        Performed::Exit(WorkerExit::Broken {
            message: "the training thread takes no orders".to_owned(),
        })
    }

    fn send(&mut self, event: Event) -> Performed {
        match self.outside.send(event) {
            Ok(()) => Performed::Done,
            Err(why) => Performed::SessionLost(why),
        }
    }

    fn look(&mut self) -> Option<WorkerExit> {
        let hung = self.watchdog.look(now(), self.machine.settles())?;
        let message = hung.to_string();
        Some(WorkerExit::Hung { message })
    }

    fn beat(&mut self) -> Option<WorkerExit> {
        self.perform_all(vec![Action::Send(Event::Heartbeat(Heartbeat {
            slots_computed: self.slots_computed,
            peak_resident_bytes: peak_resident_bytes(),
        }))])
    }
}

/// What came of an action.
enum Performed {
    Done,
    SessionLost(String),
    Exit(WorkerExit),
}

/// A command as it came, or what is wrong with it.
fn heard(
    command: Result<Option<weft_proto::v1::Command>, tonic::Status>,
) -> Result<Command, String> {
    match command {
        Ok(Some(command)) => Command::try_from(command)
            .map_err(|error| format!("the coordinator sent a malformed command: {error}")),
        Ok(None) => Err("the coordinator closed the session".to_owned()),
        Err(status) => Err(lost(&status)),
    }
}

/// What ended the session, for people. A transport's own words help nobody who does not know it: they go to the log.
fn lost(status: &tonic::Status) -> String {
    debug!(?status, "session broken");
    match status.source() {
        Some(_) => "the coordinator's process ended or the network failed".to_owned(),
        None => format!("the coordinator ended the session: {}", status.message()),
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
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
