//! Serves the state of this worker's engine.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tempfile::TempDir;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use weft_common::checkpoint::MANIFEST_FILE;
use weft_common::failpoint;
use weft_common::id::JobId;
use weft_proto::v1::peer_server::{Peer, PeerServer as PeerServerService};
use weft_proto::v1::{FetchStateRequest, StateChunk};

use super::{CHUNK_BYTES, CHUNK_WITHIN, WHOLE_WITHIN, temporary};
use crate::agent::thread::StateHandle;

/// States that are sent at once: each is a copy in memory, then on disk.
const SERVED: usize = 4;

/// Callers that are heard at once; those beyond [`SERVED`] wait.
const HEARD: usize = 32;

/// Chunks read ahead of the caller.
const READ_AHEAD: usize = 2;

/// The state's folder within the temporary one.
const FOLDER: &str = "state";

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
    /// Serves what `state` gives; on its way it lies below `cache_dir`.
    pub(in crate::agent) fn start(
        listener: TcpListener,
        state: StateHandle,
        cache_dir: PathBuf,
    ) -> Self {
        let service = PeerService {
            state,
            cache_dir,
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
    cache_dir: PathBuf,
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
        let (chunks, stream) = mpsc::channel(READ_AHEAD);
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
        let folder = self.write(job).await?;
        let mut bytes = 0;
        for path in files(&folder.path().join(FOLDER)).map_err(internal)? {
            bytes += send_file(&path, chunks).await?;
            failpoint::hit("state-half-sent");
        }
        Ok(bytes)
    }

    /// The state as it is when it is this caller's turn, as files.
    async fn write(&self, job: &JobId) -> Result<TempDir, Status> {
        let snapshot = self.state.share(job.clone()).await;
        let snapshot = snapshot.map_err(|error| Status::failed_precondition(error.message))?;
        let cache_dir = self.cache_dir.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let folder = temporary(&cache_dir).map_err(internal)?;
            let written = snapshot.write(&folder.path().join(FOLDER));
            written.map_err(internal)?;
            Ok(folder)
        });
        writing.await.map_err(internal)?
    }
}

/// A folder's files by name, the manifest last.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort_by_key(|path| (path.ends_with(MANIFEST_FILE), path.clone()));
    Ok(paths)
}

async fn send_file(path: &Path, chunks: &Chunks) -> Result<u64, Status> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut file = File::open(path).await.map_err(internal)?;
    let mut sent = 0;
    loop {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let mut piece = (&mut file).take(CHUNK_BYTES as u64);
        let bytes = piece.read_to_end(&mut data).await.map_err(internal)?;
        if bytes == 0 && sent > 0 {
            return Ok(sent);
        }
        let chunk = StateChunk {
            file: name.to_string(),
            data: data.into(),
        };
        let taken = timeout(CHUNK_WITHIN, chunks.send(Ok(chunk))).await;
        let taken = taken.map_err(|_| Status::deadline_exceeded("the caller takes no more"))?;
        taken.map_err(|_| Status::cancelled("the caller is gone"))?;
        if bytes == 0 {
            return Ok(sent);
        }
        sent += bytes as u64;
    }
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
