//! Starts a coordinator: binds, takes a term, serves.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::net::SocketAddr;
use std::path::PathBuf;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tracing::{error, info};
use weft_proto::v1::control_server::ControlServer;
use weft_proto::v1::workers_server::WorkersServer;

use crate::blocking::Blocking;
use crate::config::{BindError, CoordinatorConfig};
use crate::driver::{Driver, INBOX};
use crate::handle::{CoordinatorHandle, RunningCoordinator};
use crate::job_io::Source;
use crate::reception::Reception;
use crate::records::{OpenRecords, RecordsError};
use crate::rpc::{ControlService, WorkersService};
use crate::term::next_term;

/// Starts coordinators.
#[derive(Debug)]
pub struct Coordinator;

impl Coordinator {
    /// Listens, takes the next term and serves until it is shut down.
    ///
    /// # Errors
    /// The address is taken, or the state folder cannot be written.
    pub async fn bind(config: CoordinatorConfig) -> Result<RunningCoordinator, BindError> {
        let unavailable = |source| BindError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(unavailable)?;
        let addr = listener.local_addr().map_err(unavailable)?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Self::serve(config, (addr, incoming), Blocking::OnThreads).await
    }

    /// Serves the connections of `incoming`, which were made to `addr`, until it is shut down.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub async fn serve<I, C, E>(
        config: CoordinatorConfig,
        (addr, incoming): (SocketAddr, I),
        blocking: Blocking,
    ) -> Result<RunningCoordinator, BindError>
    where
        I: Stream<Item = Result<C, E>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let records = match config.queue {
            Some(_) => Some(open_records(config.state_dir.clone()).await?),
            None => None,
        };
        let term = next_term(&config.state_dir, config.after)?;
        let channel = mpsc::channel(INBOX);
        let inbox = channel.0.clone();
        let source = Source {
            data: config.data,
            attend: config.queue.as_ref().map(|queue| queue.attend.clone()),
            blocking,
        };
        let kept = records.as_ref().map(|open| open.records.clone());
        let (driver, published) = Driver::new(term, config.limits, (source, kept.clone()), channel);
        let reception = config.queue.zip(kept.clone());
        let handle = CoordinatorHandle {
            inbox,
            published,
            term,
            records: kept,
            reception: reception.map(|(queue, records)| Reception::new(queue, records)),
        };
        let (stopped, stop) = oneshot::channel::<()>();
        let driver = tokio::spawn(async move {
            driver.run().await;
            drop(stopped);
        });
        // Before anyone is served: workers that come back find their jobs, and people all of them.
        if let Some(reception) = &handle.reception {
            reception.resume(&handle).await?;
        }
        let server = tokio::spawn(serve(incoming, handle.clone(), stop));
        info!(%addr, %term, "coordinator listens");
        Ok(RunningCoordinator {
            addr,
            handle,
            driver,
            server,
            records,
        })
    }
}

async fn open_records(state_dir: PathBuf) -> Result<OpenRecords, RecordsError> {
    let opened = tokio::task::spawn_blocking(move || OpenRecords::open(&state_dir)).await;
    opened.unwrap_or(Err(RecordsError::Late))
}

/// Serves until the driver has stopped. Connections are not asked for signs of life: workers send heartbeats, and the
/// engine, unlike a connection, knows when it was the coordinator itself that slept.
async fn serve<I, C, E>(incoming: I, handle: CoordinatorHandle, stop: oneshot::Receiver<()>)
where
    I: Stream<Item = Result<C, E>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WorkersServer<WorkersService>>().await;
    health.set_serving::<ControlServer<ControlService>>().await;
    let served = Server::builder()
        .add_service(health_service)
        .add_service(WorkersServer::new(WorkersService::new(handle.clone())))
        .add_service(ControlServer::new(ControlService::new(handle)))
        .serve_with_incoming_shutdown(incoming, async {
            // Resolves when the driver drops its end.
            let _ = stop.await;
        });
    if let Err(error) = served.await {
        error!(%error, "the coordinator's server ended");
    }
}
