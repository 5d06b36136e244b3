//! The members of a measurement, connected anew for each part of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weft_common::id::{Epoch, JobId, Rank, Term};
use weft_worker::bench::Former;
use weft_worker::collective::{Cancel, CollectiveError, Ring, RingKey, RingListener, RingPlan};

use crate::exit::{Exit, Failure};

/// How long a connection may stand still inside a sum.
const HOP_WITHIN: Duration = Duration::from_secs(30);

/// Between looks for a member that was not started yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// This member among the others.
pub(super) struct Members {
    listener: RingListener,
    addresses: Vec<SocketAddr>,
    rank: Rank,
    epoch: Epoch,
    form_within: Duration,
}

impl Members {
    /// The member of `rank`, who listens at its address.
    pub(super) fn at(
        addresses: &[SocketAddr],
        rank: u32,
        form_within: Duration,
    ) -> Result<Self, Failure> {
        let own = addresses.get(rank as usize).ok_or_else(|| {
            Failure::new(
                Exit::Environment,
                format_args!(
                    "--rank {rank} is none of the {} --members, which count from 0",
                    addresses.len()
                ),
            )
        })?;
        let listener =
            RingListener::bind_at(*own).map_err(|error| Failure::new(Exit::Environment, error))?;
        Ok(Self::of(listener, addresses.to_vec(), rank, form_within))
    }

    /// The member of `rank`, who listens already.
    pub(super) fn of(
        listener: RingListener,
        addresses: Vec<SocketAddr>,
        rank: u32,
        form_within: Duration,
    ) -> Self {
        Self {
            listener,
            addresses,
            rank: Rank(rank),
            epoch: Epoch(0),
            form_within,
        }
    }
}

impl Former for Members {
    fn form(&mut self, cancel: &Cancel) -> Result<Ring, CollectiveError> {
        self.epoch = self.epoch.next();
        let plan = RingPlan {
            key: RingKey {
                job: job(),
                term: Term(1),
                epoch: self.epoch,
            },
            members: self.addresses.clone(),
            rank: self.rank,
            form_within: self.form_within,
            hop_within: HOP_WITHIN,
        };
        let start = Instant::now();
        loop {
            match Ring::form(&self.listener, &plan, cancel) {
                Ok(ring) => return Ok(ring),
                // Nobody listens there yet.
                Err(CollectiveError::PeerLost { .. }) if start.elapsed() < self.form_within => {
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn job() -> JobId {
    "job-bench-reduce"
        .parse()
        .expect("letters and hyphens make an id")
}
