//! The training thread, and the server of its state, as the driver's trainer.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::debug;

use super::machine::Scope;
use super::order::{Answer, Order};
use super::peer::PeerServer;
use super::setup::{EngineFactory, WorkerConfig};
use super::surroundings::Trainer;
use super::thread::{Place, TrainingThread};
use super::tokens::Tokens;
use super::watchdog::{LOOK_EVERY, Watchdog};

/// How long the end waits for the training thread, which may be in the middle of a micro-batch.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// The training thread, and the server of its state.
pub(super) struct OnThread {
    thread: TrainingThread,
    /// What ends its work.
    tokens: Tokens,
    /// Ends when dropped.
    server: PeerServer,
    watchdog: Watchdog,
}

impl OnThread {
    pub(super) fn start(
        config: &WorkerConfig,
        (place, listener): (Place, TcpListener),
        factory: EngineFactory,
        answers: mpsc::Sender<Answer>,
    ) -> io::Result<Self> {
        let thread = TrainingThread::start(place, factory, answers)?;
        let server = PeerServer::start(listener, thread.state());
        Ok(Self {
            watchdog: Watchdog::new(thread.work(), config.hang_after, now()),
            thread,
            tokens: Tokens::default(),
            server,
        })
    }
}

impl Trainer for OnThread {
    fn order(&mut self, order: Order) -> bool {
        self.thread.order(order, &self.tokens)
    }

    fn cancel(&mut self, scope: Scope) {
        self.tokens.cancel(scope);
    }

    fn computed(&mut self, elapsed: Duration) {
        self.watchdog.computed(elapsed);
    }

    fn device_bytes(&self) -> u64 {
        self.thread.device_bytes()
    }

    fn hung(&mut self, settles: bool) -> Option<String> {
        self.watchdog
            .look(now(), settles)
            .map(|hung| hung.to_string())
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, Option<String>> {
        Box::pin(async move {
            drop(self.server);
            let thread = self.thread.close();
            let mut joined = tokio::task::spawn_blocking(move || thread.join());
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let join_by = Instant::now() + JOIN_WITHIN;
            loop {
                tokio::select! {
                    _ = &mut joined => return None,
                    _ = looks.tick() => {
                        if let Some(hung) = self.watchdog.look(now(), true) {
                            return Some(hung.to_string());
                        }
                    }
                    () = tokio::time::sleep_until(join_by) => {
                        debug!("the training thread is still busy; the process ends without it");
                        return None;
                    }
                }
            }
        })
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
