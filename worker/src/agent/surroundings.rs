//! What lies around a worker's process, so that a simulation can put something else there.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};
use weft_common::id::WorkerId;

use super::machine::{Copy, Scope};
use super::order::{Order, StateCopy};
use super::{peer, session};

/// Makes connections to the coordinator.
pub type Dial = Arc<
    dyn Fn(Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> + Send + Sync,
>;

/// Copies the state of a peer; what failed is told with the values and the remedy.
pub type CopyState =
    Arc<dyn Fn(Copy) -> BoxFuture<'static, Result<StateCopy, String>> + Send + Sync>;

/// What lies around a worker's process.
#[derive(Clone)]
pub struct Surroundings {
    /// This process start.
    pub worker: WorkerId,
    /// The name of its host.
    pub host: String,
    /// The way to the coordinator.
    pub dial: Dial,
    /// The way to its peers.
    pub copy: CopyState,
}

impl Surroundings {
    /// This host and its network.
    pub(super) fn here() -> Self {
        Self {
            worker: WorkerId::generate(),
            host: session::host_name(),
            dial: Arc::new(|endpoint| Box::pin(async move { endpoint.connect().await })),
            copy: Arc::new(|wanted| Box::pin(peer::copy(wanted))),
        }
    }
}

/// Who does a worker's orders, one after another, and answers through the channel it was made with.
pub trait Trainer: Send {
    /// Queues an order; false where it takes no more.
    fn order(&mut self, order: Order) -> bool;

    /// Ends or passes over what is of this kind.
    fn cancel(&mut self, scope: Scope);

    /// A micro-batch took it so long.
    fn computed(&mut self, _elapsed: Duration) {}

    /// Memory of its GPU in use after the last order; 0 without one.
    fn device_bytes(&self) -> u64 {
        0
    }

    /// What it hangs in, in words, where it does; `settles`: the worker waits for it to settle.
    fn hung(&mut self, _settles: bool) -> Option<String> {
        None
    }

    /// No more orders. Waits for what is under way, within limits; what it hangs in, where it does.
    fn close(self: Box<Self>) -> BoxFuture<'static, Option<String>>;
}
