//! All-reduce over TCP between neighbours in a ring.
//!
//! Member r dials r+1 and is dialled by r−1. The buffer is cut into W chunks. In W−1 hops of reduce-scatter each
//! member passes a chunk on and adds the one it receives, so that member r ends with the full sum of chunk r+1; in
//! W−1 hops of all-gather the sums go round. Each hop sends and receives at once, so that no chunk is too large for
//! the sockets' buffers, and each read and write has a deadline.
//!
//! ```text
//!   r−1 ──prev──▶ r ──next──▶ r+1        2(W−1) hops of len/W elements each
//! ```
//!
//! The death of a member reaches its neighbours at once as a reset connection; they end their own ring, which closes
//! their connections, and so the news runs round.

mod form;
mod handshake;
mod link;
mod neighbours;
mod reduce;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::runtime::Runtime;
use weft_common::failpoint;
use weft_common::id::{Epoch, JobId, Rank, Term};

use self::link::Links;
pub use self::neighbours::Neighbours;
use super::{Cancel, Collective, CollectiveError};

/// Where this worker is dialled by ring neighbours. It outlives epochs: each forms its ring on the same one.
#[derive(Debug)]
pub struct RingListener {
    socket: TcpListener,
    address: SocketAddr,
}

impl RingListener {
    /// Listens on a free port of `ip`.
    ///
    /// # Errors
    /// [`CollectiveError::Listen`].
    pub fn bind(ip: IpAddr) -> Result<Self, CollectiveError> {
        Self::bind_at(SocketAddr::new(ip, 0))
    }

    /// Listens at `asked`.
    ///
    /// # Errors
    /// [`CollectiveError::Listen`].
    pub fn bind_at(asked: SocketAddr) -> Result<Self, CollectiveError> {
        let refused = |source| CollectiveError::Listen {
            address: asked,
            source,
        };
        let socket = TcpListener::bind(asked).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address })
    }

    /// The address to tell the others.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What a connection must prove to belong to: peers of another job, term or epoch are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingKey {
    /// The job.
    pub job: JobId,
    /// Incarnation of the coordinator that formed the epoch; each counts epochs for itself.
    pub term: Term,
    /// The generation of its membership.
    pub epoch: Epoch,
}

/// One epoch's ring.
#[derive(Debug, Clone)]
pub struct RingPlan {
    /// Which job, term and epoch.
    pub key: RingKey,
    /// Every member's listening address, by rank.
    pub members: Vec<SocketAddr>,
    /// This member's place.
    pub rank: Rank,
    /// How long forming may take.
    pub form_within: Duration,
    /// How long a connection may stand still inside an all-reduce.
    pub hop_within: Duration,
}

/// A formed ring.
#[derive(Debug)]
pub struct Ring {
    world: u32,
    rank: Rank,
    hop_within: Duration,
    calls: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A world of one has no neighbours.
    Alone,
    Linked(Box<Linked>),
    Broken,
}

/// The links go before the runtime that drives them: fields drop in order.
#[derive(Debug)]
struct Linked {
    links: Links,
    runtime: Runtime,
}

impl Ring {
    /// Connects to both neighbours. Must not be called from an async task: it blocks, like [`Collective`]'s call.
    ///
    /// Strangers and stale peers that dial in meanwhile are turned away and do not disturb the forming.
    ///
    /// # Errors
    /// A neighbour that cannot be reached, refuses this member or does not come within
    /// `plan.form_within`; cancellation.
    pub fn form(
        listener: &RingListener,
        plan: &RingPlan,
        cancel: &Cancel,
    ) -> Result<Self, CollectiveError> {
        let state = form::form(listener, plan, cancel)?;
        Ok(Self {
            world: u32::try_from(plan.members.len())
                .expect("a rank within the members is a u32, so is their number"),
            rank: plan.rank,
            hop_within: plan.hop_within,
            calls: 0,
            state,
        })
    }

    /// Sums a few numbers that members agree on, as [`Collective::all_reduce_sum`] does; a connection may stand still for
    /// `within`.
    ///
    /// # Errors
    /// Those of [`Collective::all_reduce_sum`].
    pub(super) fn agree(
        &mut self,
        words: &mut [i64],
        within: Duration,
        cancel: &Cancel,
    ) -> Result<(), CollectiveError> {
        self.sum(words, (within, || ()), cancel)
    }

    /// The neighbours, to look after while something else is waited for. None in a world of one.
    ///
    /// # Errors
    /// The system's; [`CollectiveError::Broken`].
    pub(super) fn neighbours(&self) -> Result<Neighbours, CollectiveError> {
        match &self.state {
            State::Alone => Ok(Neighbours::default()),
            State::Linked(linked) => Neighbours::of(&linked.links),
            State::Broken => Err(CollectiveError::Broken),
        }
    }

    /// Ends it: the neighbours notice, unless something else holds the connections.
    pub(super) fn hang_up(&mut self) {
        self.state = State::Broken;
    }

    fn sum(
        &mut self,
        buf: &mut [i64],
        (hop_within, midway): (Duration, fn()),
        cancel: &Cancel,
    ) -> Result<(), CollectiveError> {
        if cancel.is_cancelled() {
            self.state = State::Broken;
            return Err(CollectiveError::Cancelled);
        }
        let call = reduce::Call {
            number: self.calls,
            world: self.world as usize,
            rank: self.rank.0 as usize,
            hop_within,
            midway,
        };
        let result = match &mut self.state {
            State::Alone => Ok(()),
            State::Broken => Err(CollectiveError::Broken),
            State::Linked(linked) => linked.all_reduce(&call, buf, cancel),
        };
        self.calls += 1;
        if result.is_err() {
            self.state = State::Broken;
        }
        result
    }
}

impl Linked {
    fn all_reduce(
        &mut self,
        call: &reduce::Call,
        buf: &mut [i64],
        cancel: &Cancel,
    ) -> Result<(), CollectiveError> {
        let Self { links, runtime } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(CollectiveError::Cancelled),
                result = reduce::all_reduce(links, call, buf) => result,
            }
        })
    }
}

impl Collective for Ring {
    fn world(&self) -> u32 {
        self.world
    }

    fn rank(&self) -> Rank {
        self.rank
    }

    fn all_reduce_sum(&mut self, buf: &mut [i64], cancel: &Cancel) -> Result<(), CollectiveError> {
        let midway = || failpoint::hit("reducing");
        self.sum(buf, (self.hop_within, midway), cancel)
    }
}

#[cfg(test)]
mod tests;
