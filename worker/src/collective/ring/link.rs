//! The two connections of a member, and reads and writes with a deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weft_common::id::Rank;

use super::super::CollectiveError;

/// A neighbour's place and address, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) rank: Rank,
    pub(super) address: SocketAddr,
}

impl Peer {
    pub(super) fn lost(self, during: &'static str, source: io::Error) -> CollectiveError {
        CollectiveError::PeerLost {
            rank: self.rank,
            address: self.address,
            during,
            source,
        }
    }

    pub(super) fn stalled(self, during: &'static str, waited: Duration) -> CollectiveError {
        CollectiveError::Stalled {
            rank: self.rank,
            address: self.address,
            during,
            waited,
        }
    }
}

/// A connection to one neighbour.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) stream: TcpStream,
}

/// Both neighbours; in a ring of two they are the same member over two connections.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) next: Link,
    pub(super) prev: Link,
}

const SENDING: &str = "sending a chunk to it";
const RECEIVING: &str = "receiving a chunk from it";

impl Link {
    /// Writes all of `bytes`; no single write may wait longer than `within`.
    pub(super) async fn send(
        &mut self,
        mut bytes: &[u8],
        within: Duration,
    ) -> Result<(), CollectiveError> {
        while !bytes.is_empty() {
            let written = timeout(within, self.stream.write(bytes))
                .await
                .map_err(|_| self.peer.stalled(SENDING, within))?
                .map_err(|source| self.peer.lost(SENDING, source))?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Fills `bytes`; no single read may wait longer than `within`.
    pub(super) async fn receive(
        &mut self,
        bytes: &mut [u8],
        within: Duration,
    ) -> Result<(), CollectiveError> {
        let mut filled = 0;
        while filled < bytes.len() {
            let read = timeout(within, self.stream.read(&mut bytes[filled..]))
                .await
                .map_err(|_| self.peer.stalled(RECEIVING, within))?
                .map_err(|source| self.peer.lost(RECEIVING, source))?;
            if read == 0 {
                let closed =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
                return Err(self.peer.lost(RECEIVING, closed));
            }
            filled += read;
        }
        Ok(())
    }
}
