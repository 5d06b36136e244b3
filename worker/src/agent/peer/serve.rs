//! Serves the state of this worker's engine.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use weft_common::failpoint;
use weft_common::id::JobId;
use weft_proto::v1::peer_server::{Peer, PeerServer as PeerServerService};
use weft_proto::v1::{FetchStateRequest, StateChunk};

use super::{CHUNK_BYTES, CHUNK_WITHIN, WHOLE_WITHIN};
use crate::agent::Snapshot;
use crate::agent::thread::StateHandle;

/// States that are sent at once: each is a copy in memory.
const SERVED: usize = 4;

/// Callers that are heard at once; those beyond [`SERVED`] wait.
const HEARD: usize = 32;

/// Chunks made ahead of the caller.
const AHEAD: usize = 4;

/// Serves until dropped.
#[derive(Debug)]
pub(in crate::agent) struct PeerServer {
    _task: AbortOnDropHandle<()>,
}

/// Listens on a free port of `ip`.
///
/// # Errors
/// There is no such address, or no free port.
pub(in crate::agent) async fn bind(ip: IpAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(ip, 0)).await
}

impl PeerServer {
    /// Serves what `state` gives.
    pub(in crate::agent) fn start(listener: TcpListener, state: StateHandle) -> Self {
        let service = PeerService {
            state,
            heard: Arc::new(Semaphore::new(HEARD)),
            served: Arc::new(Semaphore::new(SERVED)),
        };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder()
            .add_service(PeerServerService::new(service))
            .serve_with_incoming(incoming);
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                warn!(%error, "the state is no longer served");
            }
        });
        Self {
            _task: AbortOnDropHandle::new(task),
        }
    }
}

#[derive(Debug, Clone)]
struct PeerService {
    state: StateHandle,
    heard: Arc<Semaphore>,
    served: Arc<Semaphore>,
}

type Chunks = mpsc::Sender<Result<StateChunk, Status>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type FetchStateStream = Pin<Box<dyn Stream<Item = Result<StateChunk, Status>> + Send>>;

    async fn fetch_state(
        &self,
        request: Request<FetchStateRequest>,
    ) -> Result<Response<Self::FetchStateStream>, Status> {
        let job = request.into_inner().job.parse::<JobId>();
        let job = job.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let heard = self.heard.clone().try_acquire_owned();
        let heard = heard.map_err(|_| {
            Status::resource_exhausted(format!("{HEARD} workers ask for the state already"))
        })?;
        let (chunks, stream) = mpsc::channel(AHEAD);
        tokio::spawn(self.clone().answer(job, heard, chunks));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl PeerService {
    /// Ends when all is sent, the caller is gone, or its time is over.
    async fn answer(self, job: JobId, _heard: OwnedSemaphorePermit, chunks: Chunks) {
        let sent = timeout(WHOLE_WITHIN, async {
            tokio::select! {
                sent = self.send(&job, &chunks) => sent,
                () = chunks.closed() => Err(Status::cancelled("the caller is gone")),
            }
        });
        let sent = sent.await.unwrap_or_else(|_| {
            let message = format!("the state was not sent within {WHOLE_WITHIN:?}");
            Err(Status::deadline_exceeded(message))
        });
        match sent {
            Ok(bytes) => info!(%job, bytes, "sent the state to a peer"),
            Err(status) => {
                warn!(%job, why = status.message(), "a peer did not get the state");
                // A caller that is gone needs no reason.
                let _ = chunks.try_send(Err(status));
            }
        }
    }

    async fn send(&self, job: &JobId, chunks: &Chunks) -> Result<u64, Status> {
        let _permit = self.served.acquire().await.map_err(internal)?;
        let snapshot = self.state.share(job.clone()).await;
        let snapshot = snapshot.map_err(|error| Status::failed_precondition(error.message))?;
        let chunks = chunks.clone();
        let sending = tokio::task::spawn_blocking(move || pour(&*snapshot, &chunks));
        sending.await.map_err(internal)?
    }
}

/// Sends a state, on a thread that may block; the bytes of its arrays.
fn pour(snapshot: &dyn Snapshot, chunks: &Chunks) -> Result<u64, Status> {
    let arrays = snapshot.arrays();
    let total: usize = arrays.iter().map(|array| array.len()).sum();
    let header = snapshot.header();
    let first = StateChunk {
        header: header
            .map_err(|error| Status::internal(error.message))?
            .into(),
        total_bytes: total as u64,
        ..StateChunk::default()
    };
    hand_over(first, chunks)?;
    let mut piece = Vec::with_capacity(CHUNK_BYTES.min(total));
    let mut left = total;
    for mut array in arrays {
        while !array.is_empty() {
            let (head, tail) = array.split_at(array.len().min(CHUNK_BYTES - piece.len()));
            piece.extend_from_slice(head);
            array = tail;
            left -= head.len();
            if piece.len() == CHUNK_BYTES || left == 0 {
                failpoint::hit("state-half-sent");
                let next = Vec::with_capacity(CHUNK_BYTES.min(left));
                let data = std::mem::replace(&mut piece, next).into();
                let chunk = StateChunk {
                    data,
                    ..StateChunk::default()
                };
                hand_over(chunk, chunks)?;
            }
        }
    }
    Ok(total as u64)
}

fn hand_over(chunk: StateChunk, chunks: &Chunks) -> Result<(), Status> {
    let taken = Handle::current().block_on(timeout(CHUNK_WITHIN, chunks.send(Ok(chunk))));
    let taken = taken.map_err(|_| Status::deadline_exceeded("the caller takes no more"))?;
    taken.map_err(|_| Status::cancelled("the caller is gone"))
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
