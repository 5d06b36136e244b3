//! Connections of the simulated network, as server and client take them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};
use weft_worker::agent::Dial;

/// A connection that was made to the coordinator.
pub(super) struct Accepted {
    stream: TcpStream,
    from: SocketAddr,
}

/// The connections that are made to `listener`.
pub(super) fn accepted(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<Accepted>> + Send + 'static {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        let accepted = accepted.map(|(stream, from)| Accepted { stream, from });
        Some((accepted, listener))
    })
}

/// The way of a worker to the coordinator.
pub(super) fn dial() -> Dial {
    Arc::new(|endpoint| {
        Box::pin(async move {
            let connector = service_fn(|uri: http::Uri| async move {
                let host = uri.host().unwrap_or_default().to_owned();
                let port = uri.port_u16().unwrap_or_default();
                let stream = TcpStream::connect((host, port)).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            });
            endpoint.connect_with_connector(connector).await
        })
    })
}

impl Connected for Accepted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.stream.local_addr().ok(),
            remote_addr: Some(self.from),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
