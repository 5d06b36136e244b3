//! Why a collective ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use weft_common::id::{Epoch, Rank, Term};

/// Why a collective could not be formed, or ended.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// [`Cancel`](super::Cancel) was pulled.
    #[error("the all-reduce was cancelled")]
    Cancelled,
    /// The listening socket could not be opened.
    #[error("cannot listen for ring peers on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The membership makes no ring.
    #[error("rank {rank} is not one of the ring's {world} members")]
    NotAMember {
        /// The rank that was asked for.
        rank: Rank,
        /// The number of members.
        world: usize,
    },
    /// The runtime that drives the sockets could not be started.
    #[error("cannot start the ring's socket driver: {0}")]
    Driver(io::Error),
    /// A neighbour's connection could not be made, was closed or was reset.
    #[error("lost ring peer rank {rank} at {address} while {during}: {source}")]
    PeerLost {
        /// The neighbour's rank.
        rank: Rank,
        /// The neighbour's address.
        address: SocketAddr,
        /// What this member was doing.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A neighbour's connection stands, but nothing moved on it.
    #[error("ring peer rank {rank} at {address} made no progress for {waited:?} while {during}")]
    Stalled {
        /// The neighbour's rank.
        rank: Rank,
        /// The neighbour's address.
        address: SocketAddr,
        /// What this member was doing.
        during: &'static str,
        /// The deadline that passed.
        waited: Duration,
    },
    /// The neighbour belongs to another job, epoch or place.
    #[error("ring peer rank {rank} at {address} refused this member: {refusal}")]
    Refused {
        /// The neighbour's rank.
        rank: Rank,
        /// The neighbour's address.
        address: SocketAddr,
        /// Its reason.
        refusal: Refusal,
    },
    /// The neighbour is in another call, or reduces another number of elements.
    #[error(
        "ring peer rank {rank} at {address} is in all-reduce {theirs} over {their_len} elements, this member in \
         {ours} over {our_len}; both must make the same calls"
    )]
    OutOfStep {
        /// The neighbour's rank.
        rank: Rank,
        /// The neighbour's address.
        address: SocketAddr,
        /// This member's call, counted from 0.
        ours: u64,
        /// The neighbour's call.
        theirs: u64,
        /// This member's length.
        our_len: u64,
        /// The neighbour's length.
        their_len: u64,
    },
    /// NCCL failed.
    #[error("{doing} fails: {said} ({library}); NCCL_DEBUG=WARN lets it say more")]
    Nccl {
        /// What it was doing.
        doing: &'static str,
        /// What it says.
        said: String,
        /// Which library.
        library: String,
    },
    /// NCCL did not get on.
    #[error(
        "{doing} is not done after {waited:?} ({library}); NCCL_DEBUG=WARN lets it say why. Members must reach each other \
         on all TCP ports, over the network that NCCL_SOCKET_IFNAME names"
    )]
    NcclStalled {
        /// What it was doing.
        doing: &'static str,
        /// The deadline that passed.
        waited: Duration,
        /// Which library.
        library: String,
    },
    /// The GPU refused what a sum over NCCL needs.
    #[error("{doing} for a sum over NCCL fails: {said}")]
    Gpu {
        /// What was asked of it.
        doing: &'static str,
        /// What its driver says.
        said: String,
    },
    /// An earlier call failed.
    #[error("the collective ended with an earlier error; form a new epoch")]
    Broken,
}

impl CollectiveError {
    /// The neighbour that is probably gone, where that is what ended the collective. One that answers, if only to
    /// refuse, is not.
    #[must_use]
    pub fn suspect(&self) -> Option<Rank> {
        match self {
            Self::PeerLost { rank, .. } | Self::Stalled { rank, .. } => Some(*rank),
            Self::Cancelled
            | Self::Listen { .. }
            | Self::NotAMember { .. }
            | Self::Driver(_)
            | Self::Refused { .. }
            | Self::OutOfStep { .. }
            | Self::Nccl { .. }
            | Self::NcclStalled { .. }
            | Self::Gpu { .. }
            | Self::Broken => None,
        }
    }
}

/// Why a member turns away who dialled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The caller does not speak this protocol, or another version of it.
    Stranger,
    /// The caller works on another job.
    OtherJob,
    /// The caller is of an epoch that is over; this one is current.
    StaleEpoch(Term, Epoch),
    /// The caller is of an epoch that this member has not reached yet; it is still in this one.
    FutureEpoch(Term, Epoch),
    /// The caller's rank or world does not fit this member's ring.
    WrongPlace,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger => write!(f, "it speaks another protocol or another version of it"),
            Self::OtherJob => write!(f, "it works on another job"),
            Self::StaleEpoch(term, epoch) => write!(
                f,
                "this member's epoch is over; epoch {epoch} of term {term} is current"
            ),
            Self::FutureEpoch(term, epoch) => {
                write!(f, "it is still in epoch {epoch} of term {term}")
            }
            Self::WrongPlace => write!(f, "its ring has another number or order of members"),
        }
    }
}
