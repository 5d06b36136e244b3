//! A look at both neighbours' connections while nothing is read from them.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;

use super::super::CollectiveError;
use super::link::{Link, Links, Peer};

/// The connections of a ring, to look at while something else is waited for. They close when both the ring and this are
/// dropped.
#[derive(Debug, Default)]
pub struct Neighbours(Vec<(Peer, TcpStream)>);

const AWAY: &str = "summing beside it";

impl Neighbours {
    pub(super) fn of(links: &Links) -> Result<Self, CollectiveError> {
        let same = |link: &Link| {
            let shared = link.stream.as_fd().try_clone_to_owned();
            let shared = shared.map_err(|source| link.peer.lost(AWAY, source))?;
            Ok((link.peer, TcpStream::from(shared)))
        };
        Ok(Self(vec![same(&links.next)?, same(&links.prev)?]))
    }

    /// Cost: a system call for each of the two.
    ///
    /// # Errors
    /// [`CollectiveError::PeerLost`] where one of them hung up. One that sent something before is not noticed.
    pub fn check(&self) -> Result<(), CollectiveError> {
        self.0.iter().try_for_each(|(peer, stream)| {
            // The socket does not block: its ring made it so.
            match stream.peek(&mut [0]) {
                Ok(0) => {
                    let closed =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
                    Err(peer.lost(AWAY, closed))
                }
                Ok(_) => Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    Ok(())
                }
                Err(error) => Err(peer.lost(AWAY, error)),
            }
        })
    }
}
