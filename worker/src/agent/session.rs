//! A worker's session with the coordinator: find it, register, attach.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use weft_common::id::WorkerId;
use weft_common::wire::{
    Event, Hello, PROTOCOL_VERSION, WEFT_VERSION, Welcome, WorkerFacts, registered,
};
use weft_proto::v1;
use weft_proto::v1::workers_client::WorkersClient;

use super::exit::WorkerExit;
use super::setup::WorkerConfig;

/// A dead coordinator is asked for a sign of life this often …
const KEEPALIVE_EVERY: Duration = Duration::from_millis(500);
/// … and given up after this long. Patience is safe: a worker without its coordinator can commit nothing.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(15);

/// One attempt to connect.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(2);

/// Between attempts; a coordinator that just starts is found quickly, one that is away is not flooded.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// Events that may wait for the network. A worker has a handful under way.
const OUTBOX: usize = 256;

/// An open session.
#[derive(Debug)]
pub(super) struct Session {
    /// For calls beside the session.
    pub(super) client: WorkersClient<Channel>,
    /// What the coordinator granted.
    pub(super) welcome: Welcome,
    /// To the coordinator.
    pub(super) outbox: mpsc::Sender<Event>,
    /// From the coordinator.
    pub(super) commands: Streaming<v1::Command>,
}

/// Looks for the coordinator until it is found or `connect_within` has passed, then registers and attaches.
pub(super) async fn open(config: &WorkerConfig, worker: WorkerId) -> Result<Session, WorkerExit> {
    let mut client = WorkersClient::new(connect(config).await?);
    let lost = |message: String| WorkerExit::CoordinatorLost { message };
    let reply = client
        .register(v1::Hello::from(hello(config, worker)))
        .await;
    let reply = reply.map_err(|status| lost(status.message().to_owned()))?;
    let answer = registered(reply.into_inner()).map_err(|error| lost(error.to_string()))?;
    let welcome = answer.map_err(|refusal| WorkerExit::Refused {
        message: refusal.message,
    })?;
    let (outbox, events) = mpsc::channel::<Event>(OUTBOX);
    let attach = v1::WorkerEvent {
        event: Some(v1::worker_event::Event::Attach(v1::Attach {
            incarnation: worker.to_string(),
            term: welcome.term.0,
        })),
    };
    let first = futures::stream::once(std::future::ready(attach));
    let events = first.chain(ReceiverStream::new(events).map(Into::into));
    let commands = client.attach(events).await;
    let commands = commands.map_err(|status| lost(status.message().to_owned()))?;
    Ok(Session {
        client,
        welcome,
        outbox,
        commands: commands.into_inner(),
    })
}

async fn connect(config: &WorkerConfig) -> Result<Channel, WorkerExit> {
    let unreachable = |why: String| WorkerExit::Unreachable {
        message: format!(
            "{} not reached within {:.0} s: {why}; check that the coordinator runs and the address is right",
            config.coordinator,
            config.connect_within.as_secs_f64()
        ),
    };
    let endpoint = Endpoint::from_shared(config.coordinator.clone())
        .map_err(|error| unreachable(error.to_string()))?
        .connect_timeout(ATTEMPT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let deadline = Instant::now() + config.connect_within;
    let mut pause = RETRY_FIRST;
    loop {
        let error = match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => error,
        };
        if config.stop.is_cancelled() {
            return Err(WorkerExit::Left);
        }
        if Instant::now() + pause > deadline {
            return Err(unreachable(causes(&error)));
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// A transport error's own words say nothing; its causes do.
fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

fn hello(config: &WorkerConfig, worker: WorkerId) -> Hello {
    Hello {
        worker,
        weft_version: WEFT_VERSION.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        facts: WorkerFacts {
            host: host_name(),
            device: config.device.clone(),
            memory_bytes: config.memory_bytes,
        },
    }
}

/// The kernel's name of this host.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
