//! Forming: dial the successor, let the predecessor in.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::time::{sleep, timeout};
use tracing::warn;
use weft_common::id::Rank;

use super::super::{Cancel, CollectiveError, Refusal};
use super::handshake::{self, Hello};
use super::link::{Link, Links, Peer};
use super::{Linked, RingListener, RingPlan, State};

/// Callers heard at once; more wait in the listen queue, so that strangers cannot take all memory.
const MAX_CALLERS: usize = 32;

/// A caller who has not said who it is by then is dropped: members speak as soon as they are connected.
const HELLO_WITHIN: Duration = Duration::from_secs(2);

/// Pause before a successor that is still in an older epoch, or was just leaving one, is dialled again.
const REDIAL_AFTER: Duration = Duration::from_millis(20);

const DIALLING: &str = "dialling it";
const AWAITING: &str = "waiting for it to dial";

/// Connects both neighbours within the plan's deadline.
pub(super) fn form(
    listener: &RingListener,
    plan: &RingPlan,
    cancel: &Cancel,
) -> Result<State, CollectiveError> {
    let places = Places::of(plan)?;
    if plan.members.len() == 1 {
        return Ok(State::Alone);
    }
    let runtime = driver()?;
    let links = runtime.block_on(async {
        let socket = listening(listener)?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(CollectiveError::Cancelled),
            links = connect(&socket, &places, plan.form_within) => links,
        }
    })?;
    Ok(State::Linked(Box::new(Linked { links, runtime })))
}

/// How this member and its predecessor introduce themselves, and both neighbours' addresses.
struct Places {
    own: Hello,
    expected: Hello,
    next: Peer,
    prev: Peer,
}

impl Places {
    fn of(plan: &RingPlan) -> Result<Self, CollectiveError> {
        let outside = || CollectiveError::NotAMember {
            rank: plan.rank,
            world: plan.members.len(),
        };
        let world = u32::try_from(plan.members.len()).map_err(|_| outside())?;
        if plan.rank.0 >= world {
            return Err(outside());
        }
        let peer = |rank: u32| Peer {
            rank: Rank(rank),
            address: plan.members[rank as usize],
        };
        let next = peer((plan.rank.0 + 1) % world);
        let prev = peer((plan.rank.0 + world - 1) % world);
        Ok(Self {
            own: Hello::new(&plan.key, plan.rank, world),
            expected: Hello::new(&plan.key, prev.rank, world),
            next,
            prev,
        })
    }
}

fn driver() -> Result<Runtime, CollectiveError> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CollectiveError::Driver)
}

fn listening(listener: &RingListener) -> Result<TcpListener, CollectiveError> {
    let socket = listener.socket.try_clone().and_then(TcpListener::from_std);
    socket.map_err(|source| CollectiveError::Listen {
        address: listener.address,
        source,
    })
}

async fn connect(
    socket: &TcpListener,
    places: &Places,
    within: Duration,
) -> Result<Links, CollectiveError> {
    let dialled = async {
        let waited = timeout(within, dial(places.next, &places.own)).await;
        waited.map_err(|_| places.next.stalled(DIALLING, within))?
    };
    let accepted = async {
        let waited = timeout(within, accept(socket, &places.expected)).await;
        let stream = waited.map_err(|_| places.prev.stalled(AWAITING, within))?;
        stream.map_err(|source| places.prev.lost(AWAITING, source))
    };
    let (next, prev) = tokio::try_join!(dialled, accepted)?;
    for (stream, peer) in [(&next, places.next), (&prev, places.prev)] {
        stream
            .set_nodelay(true)
            .map_err(|source| peer.lost(DIALLING, source))?;
    }
    Ok(Links {
        next: Link {
            peer: places.next,
            stream: next,
        },
        prev: Link {
            peer: places.prev,
            stream: prev,
        },
    })
}

/// Dials until let in. A successor that has not yet left an older epoch, or hangs up because it just does, is asked
/// again; one whose process is gone refuses the connection, which ends the attempt at once.
async fn dial(peer: Peer, own: &Hello) -> Result<TcpStream, CollectiveError> {
    loop {
        let connected = TcpStream::connect(peer.address).await;
        let mut stream = connected.map_err(|source| peer.lost(DIALLING, source))?;
        match handshake::introduce(&mut stream, own).await {
            Ok(Ok(())) => return Ok(stream),
            Ok(Err(Refusal::FutureEpoch(_, _))) | Err(_) => sleep(REDIAL_AFTER).await,
            Ok(Err(refusal)) => {
                return Err(CollectiveError::Refused {
                    rank: peer.rank,
                    address: peer.address,
                    refusal,
                });
            }
        }
    }
}

/// Hears callers, many at once, until the predecessor is among them: a silent stranger delays nobody.
async fn accept(socket: &TcpListener, expected: &Hello) -> io::Result<TcpStream> {
    let mut callers = FuturesUnordered::new();
    loop {
        tokio::select! {
            incoming = socket.accept(), if callers.len() < MAX_CALLERS => {
                let (mut stream, address) = incoming?;
                callers.push(async move {
                    let heard = timeout(HELLO_WITHIN, handshake::receive(&mut stream, expected)).await;
                    let verdict = heard.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                    (stream, address, verdict)
                });
            }
            Some((stream, address, verdict)) = callers.next() => match verdict {
                Ok(Ok(())) => return Ok(stream),
                Ok(Err(refusal)) => warn!(%address, ?refusal, "turned away a caller on the ring's port"),
                Err(error) => warn!(%address, %error, "a caller on the ring's port left before it was heard"),
            },
        }
    }
}
