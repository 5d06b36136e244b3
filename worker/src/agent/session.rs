//! One attempt to open a session: find the coordinator, register, attach.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use weft_common::id::Term;
use weft_common::wire::{
    Attach, Event, Hello, PROTOCOL_VERSION, WEFT_VERSION, Welcome, WorkerFacts, registered,
};
use weft_proto::v1;
use weft_proto::v1::workers_client::WorkersClient;

use super::machine::{Connect, ConnectFailure};
use super::setup::WorkerConfig;
use super::surroundings::Surroundings;

/// A dead coordinator is asked for a sign of life this often …
const KEEPALIVE_EVERY: Duration = Duration::from_millis(500);
/// … and given up after this long. Patience is safe: a worker without its coordinator can commit nothing.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(15);

/// How long the connection may take to be there …
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// … and each of the two calls to be answered.
const CALL_WITHIN: Duration = Duration::from_secs(10);

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

/// How the coordinator is reached.
///
/// # Errors
/// The address is none.
pub(super) fn endpoint(config: &WorkerConfig) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(config.coordinator.clone());
    let endpoint =
        endpoint.map_err(|error| format!("{} is no address: {error}", config.coordinator))?;
    Ok(endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .local_address(config.from_ip)
        .tcp_nodelay(true))
}

/// Makes one attempt, after the pause that `asked` says.
pub(super) async fn open(
    endpoint: Endpoint,
    config: WorkerConfig,
    around: Surroundings,
    asked: Connect,
) -> Result<Session, ConnectFailure> {
    sleep(asked.after).await;
    let channel = (around.dial)(endpoint).await;
    let mut client = WorkersClient::new(channel.map_err(|error| ConnectFailure::Unreachable {
        message: format!("{} not reached: {}", config.coordinator, causes(&error)),
    })?);
    let welcome = register(&mut client, hello(&config, &around, asked.session)).await?;
    let term = Some(welcome.term);
    if welcome.term < asked.at_least {
        let message = format!(
            "{} is a coordinator of term {}, which ended with term {}",
            config.coordinator, welcome.term, asked.at_least
        );
        return Err(ConnectFailure::Lost { term, message });
    }
    let (outbox, events) = mpsc::channel::<Event>(OUTBOX);
    let attach = v1::WorkerEvent {
        event: Some(v1::worker_event::Event::Attach(v1::Attach::from(Attach {
            worker: around.worker,
            term: welcome.term,
            session: asked.session,
            holding: asked.holding.map(|holding| *holding),
        }))),
    };
    let first = futures::stream::once(std::future::ready(attach));
    let events = first.chain(ReceiverStream::new(events).map(Into::into));
    let commands = within(term, client.attach(events)).await?;
    Ok(Session {
        client,
        welcome,
        outbox,
        commands: commands.into_inner(),
    })
}

async fn register(
    client: &mut WorkersClient<Channel>,
    hello: Hello,
) -> Result<Welcome, ConnectFailure> {
    let reply = within(None, client.register(v1::Hello::from(hello))).await?;
    let answer = registered(reply.into_inner()).map_err(|error| ConnectFailure::Lost {
        term: None,
        message: error.to_string(),
    })?;
    answer.map_err(|refusal| {
        let reason = refusal.reason();
        let message = refusal.message;
        match reason {
            v1::RefusalReason::Duplicate => ConnectFailure::Duplicate { message },
            v1::RefusalReason::ShuttingDown => ConnectFailure::ShuttingDown { message },
            v1::RefusalReason::Unspecified
            | v1::RefusalReason::WeftVersion
            | v1::RefusalReason::ProtocolVersion
            | v1::RefusalReason::Full
            | v1::RefusalReason::Malformed => ConnectFailure::Refused { message },
        }
    })
}

/// A call to a coordinator whose term was heard, if it was.
async fn within<T>(
    term: Option<Term>,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, ConnectFailure> {
    let lost = |message| ConnectFailure::Lost { term, message };
    let answer = timeout(CALL_WITHIN, call).await;
    let answer = answer.map_err(|_| lost(format!("no answer within {CALL_WITHIN:?}")))?;
    answer.map_err(|status| lost(status.message().to_owned()))
}

/// A transport error's own words say nothing; its causes do.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

fn hello(config: &WorkerConfig, around: &Surroundings, session: u32) -> Hello {
    Hello {
        worker: around.worker,
        weft_version: WEFT_VERSION.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        session,
        facts: WorkerFacts {
            host: around.host.clone(),
            device: config.device.clone(),
            memory_bytes: config.memory_bytes,
            labels: config.labels.clone(),
        },
    }
}

/// The kernel's name of this host.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
