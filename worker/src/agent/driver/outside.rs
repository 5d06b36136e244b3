//! What the driver waits for beyond this process: the coordinator, datasets, states of peers.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Endpoint;
use tracing::info;
use weft_common::id::JobId;
use weft_common::wire::{DatasetRef, Event};

use super::{Woken, heard};
use crate::agent::fetch::fetch;
use crate::agent::machine::{Connect, ConnectFailure, Copy, Input, Scope};
use crate::agent::session::{self, Session};
use crate::agent::setup::WorkerConfig;
use crate::agent::surroundings::Surroundings;

/// Datasets and states that arrived and wait to be looked at: one of each.
const ARRIVALS: usize = 2;

pub(super) struct Outside {
    pub(super) config: WorkerConfig,
    endpoint: Endpoint,
    around: Surroundings,
    link: Link,
    heartbeats: Interval,
    arrivals: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    /// Ends when dropped.
    fetching: Option<AbortOnDropHandle<()>>,
    /// Ends when dropped.
    copying: Option<AbortOnDropHandle<()>>,
}

/// The connection to the coordinator.
enum Link {
    /// None; the worker settles, or is about to end.
    Idle(Alone),
    /// One is being made.
    Connecting {
        alone: Alone,
        attempt: AbortOnDropHandle<Result<Session, ConnectFailure>>,
    },
    Open(Box<Session>),
}

/// How long there has been no session, and how long that may go on.
#[derive(Debug, Clone, Copy)]
struct Alone {
    since: Instant,
    within: Duration,
}

impl Outside {
    pub(super) fn new(config: WorkerConfig, endpoint: Endpoint, around: Surroundings) -> Self {
        let alone = Alone {
            since: Instant::now(),
            within: config.connect_within,
        };
        Self {
            config,
            endpoint,
            around,
            link: Link::Idle(alone),
            // Every session has its own.
            heartbeats: every(Duration::from_secs(1)),
            arrivals: mpsc::channel(ARRIVALS),
            fetching: None,
            copying: None,
        }
    }

    pub(super) async fn next(&mut self) -> Woken {
        let input = tokio::select! {
            biased;
            woken = self.link.next(&mut self.heartbeats) => match woken {
                Some(Heard::Session(session)) => self.opened(session),
                Some(Heard::Input(input)) => {
                    self.note(&input);
                    *input
                }
                None => return Woken::Heartbeat,
            },
            arrived = self.arrivals.1.recv() => arrived.unwrap_or(Input::ThreadLost),
        };
        Woken::Input(Box::new(input))
    }

    /// Starts an attempt to open a session; one in hand ends.
    pub(super) fn connect(&mut self, asked: Connect) {
        let opening = session::open(
            self.endpoint.clone(),
            self.config.clone(),
            self.around.clone(),
            asked,
        );
        self.link = Link::Connecting {
            alone: self.link.alone(&self.config),
            attempt: AbortOnDropHandle::new(tokio::spawn(opening)),
        };
    }

    /// Tells the coordinator; nothing where there is no session.
    ///
    /// # Errors
    /// The session takes no more and has ended.
    pub(super) fn send(&mut self, event: Event) -> Result<(), String> {
        let Link::Open(session) = &self.link else {
            return Ok(());
        };
        if session.outbox.try_send(event).is_ok() {
            return Ok(());
        }
        self.link = Link::Idle(self.link.alone(&self.config));
        Err("the coordinator takes no more events".to_owned())
    }

    pub(super) fn fetch(&mut self, job: JobId, dataset: DatasetRef) {
        let Link::Open(session) = &self.link else {
            return;
        };
        let fetching = fetch(
            session.client.clone(),
            dataset,
            self.config.cache_dir.clone(),
            self.around.worker,
        );
        let arrived = self.arrivals.0.clone();
        self.fetching = Some(spawn(async move {
            let found = fetching.await;
            // A driver that has ended waits for no dataset.
            let _ = arrived.send(Input::Dataset { job, found }).await;
        }));
    }

    pub(super) fn copy(&mut self, wanted: Copy) {
        let (membership, source) = (wanted.membership.clone(), wanted.source);
        let copying = (self.around.copy)(wanted);
        let arrived = self.arrivals.0.clone();
        self.copying = Some(spawn(async move {
            let found = copying.await;
            let copied = Input::Copied {
                membership,
                source,
                found,
            };
            // A driver that has ended waits for no state.
            let _ = arrived.send(copied).await;
        }));
    }

    pub(super) fn cancel(&mut self, scope: Scope) {
        match scope {
            Scope::Slots | Scope::Staged | Scope::Reduce => {}
            Scope::Copy => self.copying = None,
            Scope::Job => {
                self.copying = None;
                self.fetching = None;
            }
        }
    }

    fn opened(&mut self, session: Box<Session>) -> Input {
        let term = session.welcome.term;
        info!(worker = %self.around.worker, coordinator = self.config.coordinator, %term, "attached");
        self.heartbeats = every(session.welcome.heartbeat_every);
        self.link = Link::Open(session);
        Input::Connected { term }
    }

    fn note(&mut self, input: &Input) {
        if matches!(input, Input::ConnectFailed(_) | Input::SessionLost(_)) {
            self.link = Link::Idle(self.link.alone(&self.config));
        }
    }
}

/// What is heard of the coordinator.
enum Heard {
    Session(Box<Session>),
    Input(Box<Input>),
}

impl Link {
    /// Since when there has been no session: since now, where there is one.
    fn alone(&self, config: &WorkerConfig) -> Alone {
        match self {
            Self::Idle(alone) | Self::Connecting { alone, .. } => *alone,
            Self::Open(_) => Alone {
                since: Instant::now(),
                within: config.coordinator_grace,
            },
        }
    }

    /// What is heard next; nothing where it is time for a heartbeat.
    async fn next(&mut self, heartbeats: &mut Interval) -> Option<Heard> {
        let input = match self {
            Self::Idle(alone) => alone.over().await,
            Self::Connecting { alone, attempt } => tokio::select! {
                biased;
                attempted = attempt => match attempted {
                    Ok(Ok(session)) => return Some(Heard::Session(Box::new(session))),
                    Ok(Err(failure)) => Input::ConnectFailed(failure),
                    Err(error) => Input::ConnectFailed(ConnectFailure::Unreachable {
                        message: error.to_string(),
                    }),
                },
                overdue = alone.over() => overdue,
            },
            Self::Open(session) => tokio::select! {
                biased;
                _ = heartbeats.tick() => return None,
                command = session.commands.message() => match heard(command) {
                    Ok(command) => Input::Command(command),
                    Err(why) => Input::SessionLost(why),
                },
            },
        };
        Some(Heard::Input(Box::new(input)))
    }
}

impl Alone {
    async fn over(self) -> Input {
        tokio::time::sleep_until(self.since + self.within).await;
        Input::CoordinatorOverdue {
            waited: self.within,
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    let handle: JoinHandle<()> = tokio::spawn(task);
    AbortOnDropHandle::new(handle)
}
