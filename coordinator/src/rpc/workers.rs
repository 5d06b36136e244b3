//! The service that workers talk to.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use weft_common::id::WorkerId;
use weft_common::wire::{Attach, Command, Event, Hello, Refusal, register_reply};
use weft_proto::v1;
use weft_proto::v1::workers_server::Workers;

use super::fetch::{ChunkStream, digest, fetch};
use super::stopped;
use crate::driver::{Message, OUTBOX};
use crate::engine;
use crate::handle::CoordinatorHandle;

/// Serves workers.
#[derive(Debug, Clone)]
pub(crate) struct WorkersService {
    coordinator: CoordinatorHandle,
}

impl WorkersService {
    pub(crate) fn new(coordinator: CoordinatorHandle) -> Self {
        Self { coordinator }
    }

    async fn tell(&self, message: Message) -> Result<(), Status> {
        let sent = self.coordinator.inbox.send(message).await;
        sent.map_err(|_| stopped())
    }

    fn attaching(&self, first: Option<v1::WorkerEvent>) -> Result<Attach, Status> {
        let Some(v1::worker_event::Event::Attach(attach)) = first.and_then(|first| first.event)
        else {
            return Err(Status::invalid_argument(
                "the first event of a session must be `attach`",
            ));
        };
        let attach = Attach::try_from(attach)?;
        if attach.term != self.coordinator.term {
            return Err(Status::failed_precondition(format!(
                "worker registered in term {}, this is term {}; register again",
                attach.term, self.coordinator.term
            )));
        }
        Ok(attach)
    }
}

type CommandStream = Pin<Box<dyn Stream<Item = Result<v1::Command, Status>> + Send>>;

#[tonic::async_trait]
impl Workers for WorkersService {
    async fn register(
        &self,
        request: Request<v1::Hello>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let ip = request.remote_addr().map(|address| address.ip());
        let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let hello = match Hello::try_from(request.into_inner()) {
            Ok(hello) => hello,
            Err(error) => {
                let refusal = Refusal::Malformed(error.to_string());
                return Ok(Response::new(register_reply(Err(refusal))));
            }
        };
        let (reply, answered) = oneshot::channel();
        self.tell(Message::Register { hello, ip, reply }).await?;
        let answer = answered.await.map_err(|_| stopped())?;
        Ok(Response::new(register_reply(answer)))
    }

    type AttachStream = CommandStream;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerEvent>>,
    ) -> Result<Response<CommandStream>, Status> {
        let mut events = request.into_inner();
        let attach = self.attaching(events.message().await?)?;
        let session = (attach.worker, attach.session);
        let (outbox, commands) = mpsc::channel::<Command>(OUTBOX);
        let attach = Box::new(attach);
        self.tell(Message::Attach { attach, outbox }).await?;
        tokio::spawn(listen(session, events, self.coordinator.inbox.clone()));
        let commands = ReceiverStream::new(commands).map(|command| Ok(command.into()));
        Ok(Response::new(Box::pin(commands)))
    }

    type FetchPreparedStream = ChunkStream;

    async fn fetch_prepared(
        &self,
        request: Request<v1::FetchRange>,
    ) -> Result<Response<ChunkStream>, Status> {
        let range = request.into_inner();
        let dataset = self.coordinator.published.dataset(&digest(&range)?);
        let chunks = fetch(dataset, range).await?;
        Ok(Response::new(chunks))
    }
}

/// Signs of life that come faster than this are not passed on: a worker that floods the coordinator with them takes
/// none of its time.
const BEATS_APART: Duration = Duration::from_millis(50);

/// What ended a session, for people. A transport's own words help nobody who does not know it: they go to the log.
fn broken(worker: WorkerId, status: &Status) -> String {
    debug!(%worker, ?status, "session broken");
    match status.source() {
        Some(_) => "its process ended or its network failed".to_owned(),
        None => status.message().to_owned(),
    }
}

/// Passes a session's events on, until it ends.
async fn listen(
    (worker, session): (WorkerId, u32),
    mut events: Streaming<v1::WorkerEvent>,
    inbox: mpsc::Sender<Message>,
) {
    let mut beat: Option<Instant> = None;
    let cause = loop {
        let event = match events.message().await {
            Ok(Some(event)) => event,
            Ok(None) => break "it closed its session".to_owned(),
            Err(status) => break broken(worker, &status),
        };
        let event = match Event::try_from(event) {
            Ok(event) => event,
            Err(error) => break format!("it sent a malformed event: {error}"),
        };
        if matches!(event, Event::Heartbeat(_)) {
            let now = Instant::now();
            if beat.is_some_and(|before| now.duration_since(before) < BEATS_APART) {
                continue;
            }
            beat = Some(now);
        }
        let event = engine::Event::Reported {
            worker,
            session,
            event,
        };
        if inbox.send(Message::Event(event)).await.is_err() {
            return;
        }
    };
    let lost = engine::Event::SessionLost {
        worker,
        session,
        cause,
    };
    // A driver that has stopped has forgotten the worker already.
    let _ = inbox.send(Message::Event(lost)).await;
}
