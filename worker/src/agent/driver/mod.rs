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
use weft_common::wire::{Command, Event, Heartbeat};

use self::outside::Outside;
use super::exit::WorkerExit;
use super::machine::{Action, Input, Machine, Scope};
use super::order::{Answer, Order};
use super::peer;
use super::session;
use super::setup::{EngineFactory, WorkerConfig};
use super::surroundings::{Surroundings, Trainer};
use super::thread::Place;
use super::trainer::OnThread;
use super::watchdog::LOOK_EVERY;
use crate::health::Monitor;

/// A worker that asked to be let go ends by then: within a pod's usual grace of 60 s.
const LEAVE_WITHIN: Duration = Duration::from_secs(50);

/// Answers of the training thread that may wait; it blocks when there are more.
const ANSWERS: usize = 64;

/// Runs a worker until it is dismissed, told to stop, or has lost the coordinator for too long.
///
/// `factory` makes the engine of each job, on the training thread.
pub async fn run_worker(config: WorkerConfig, factory: EngineFactory) -> WorkerExit {
    let around = Surroundings::here();
    let listener = match peer::bind(config.listen_ip).await {
        Ok(listener) => listener,
        Err(error) => return broken("listen for peers", &error),
    };
    let peer_port = match listener.local_addr() {
        Ok(address) => address.port(),
        Err(error) => return broken("listen for peers", &error),
    };
    let place = Place {
        worker: around.worker,
        listen_ip: config.listen_ip,
        peer_port,
    };
    let (sender, answers) = mpsc::channel(ANSWERS);
    match OnThread::start(&config, (place, listener), factory, sender) {
        Ok(trainer) => run_worker_within(config, around, (Box::new(trainer), answers)).await,
        Err(error) => broken("start the training thread", &error),
    }
}

/// Runs a worker whose host, network and trainer are given.
pub async fn run_worker_within(
    config: WorkerConfig,
    around: Surroundings,
    trainer: (Box<dyn Trainer>, mpsc::Receiver<Answer>),
) -> WorkerExit {
    let exit = match Driver::start(config, around, trainer) {
        Ok((driver, first)) => driver.run(first).await,
        Err(exit) => exit,
    };
    info!(%exit, "worker ends");
    exit
}

fn broken(what: &str, error: &std::io::Error) -> WorkerExit {
    WorkerExit::Broken {
        message: format!("cannot {what}: {error}"),
    }
}

struct Driver {
    machine: Machine,
    trainer: Box<dyn Trainer>,
    answers: mpsc::Receiver<Answer>,
    /// Sessions, datasets, copies.
    outside: Outside,
    slots_computed: u64,
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
    fn start(
        config: WorkerConfig,
        around: Surroundings,
        (trainer, answers): (Box<dyn Trainer>, mpsc::Receiver<Answer>),
    ) -> Result<(Self, Vec<Action>), WorkerExit> {
        let endpoint =
            session::endpoint(&config).map_err(|message| WorkerExit::Unreachable { message })?;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (machine, first) = Machine::start();
        let driver = Self {
            machine,
            trainer,
            answers,
            outside: Outside::new(config, endpoint, around),
            slots_computed: 0,
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
        self.trainer.cancel(Scope::Job);
        drop(self.outside);
        drop(self.answers);
        match self.trainer.close().await {
            Some(message) => WorkerExit::Hung { message },
            None => exit,
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
            self.trainer.computed(done.elapsed);
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
                self.trainer.cancel(scope);
                self.outside.cancel(scope);
            }
            Action::Exit(exit) => return Performed::Exit(exit),
        }
        Performed::Done
    }

    fn train(&mut self, order: Order) -> Performed {
        if self.trainer.order(order) {
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
        let message = self.trainer.hung(self.machine.settles())?;
        Some(WorkerExit::Hung { message })
    }

    fn beat(&mut self) -> Option<WorkerExit> {
        let gpu = self.outside.config.health.as_ref().map(Monitor::now);
        self.perform_all(vec![Action::Send(Event::Heartbeat(Heartbeat {
            slots_computed: self.slots_computed,
            peak_resident_bytes: peak_resident_bytes(),
            device_bytes: self.trainer.device_bytes(),
            gpu,
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
