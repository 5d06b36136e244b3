//! A communicator that waits with a deadline and gives up when told.

#![allow(
    unsafe_code,
    reason = "NCCL puts sums into a stream that its caller vouches for"
)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::aside::Aside;
use super::poll::poll;
use super::{Deadlines, GpuStream, abort};
use crate::collective::{Cancel, CollectiveError, Neighbours};
use crate::cuda::nccl::{Comm, DeviceSum, Nccl, Status, UniqueId};

/// Bytes that a sum moves in a second where it is slow.
const SLOW_BYTES_PER_SECOND: u64 = 10_000_000;

const FORMING: &str = "forming a communicator over NCCL";
const SUMMING: &str = "a sum over NCCL";

/// A member's place in a communicator.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// What the members have in common.
    pub id: UniqueId,
    /// Which of them this is.
    pub rank: u32,
    /// How many they are.
    pub world: u32,
}

/// What ends a wait early.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    /// Whoever calls it off.
    pub cancel: &'a Cancel,
    /// Those whose end would end it too.
    pub neighbours: Option<&'a Neighbours>,
}

impl Watch<'_> {
    fn check(&self) -> Result<(), CollectiveError> {
        if self.cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        self.neighbours.map_or(Ok(()), Neighbours::check)
    }
}

/// One membership's communicator. After the first error it is aborted, before anyone waits for its stream, which it may
/// hold up. Dropped, it is aborted too, beside the work where nothing of it is left in the stream: NCCL's other ways to end one wait
/// for members that may be dead, and an abort takes half a second where some are.
pub struct Communicator {
    /// Nothing once it was aborted.
    comm: Option<Comm>,
    stream: Arc<dyn GpuStream>,
    deadlines: Deadlines,
    /// Bytes of the sums that nobody has waited for.
    pending_bytes: u64,
    /// Where it ends, if it is not told to.
    aside: Option<Arc<Aside>>,
}

impl fmt::Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator")
            .field("comm", &self.comm)
            .finish_non_exhaustive()
    }
}

impl Communicator {
    /// Forms it with all other members, who must call this too.
    ///
    /// # Errors
    /// NCCL's or the driver's; the deadline; what `watch` found.
    pub fn form(
        (nccl, stream): (&Arc<Nccl>, &Arc<dyn GpuStream>),
        seat: Seat,
        deadlines: Deadlines,
        watch: &Watch<'_>,
    ) -> Result<Self, CollectiveError> {
        make_current(&**stream)?;
        let begun = Comm::begin(Arc::clone(nccl), seat.id, (seat.rank, seat.world));
        let (comm, status) = begun.map_err(|said| CollectiveError::Nccl {
            doing: FORMING,
            said,
            library: nccl.to_string(),
        })?;
        // From here on its end is an abort.
        let formed = Self {
            comm: Some(comm),
            stream: Arc::clone(stream),
            deadlines,
            pending_bytes: 0,
            aside: None,
        };
        let comm = formed.comm.as_ref().ok_or(CollectiveError::Broken)?;
        settle(comm, status, (FORMING, deadlines.nccl), watch)?;
        Ok(formed)
    }

    /// Puts a sum into the stream. All members put in the same sums in the same order.
    ///
    /// # Errors
    /// As [`Self::form`]; [`CollectiveError::Broken`] after an abort.
    pub fn enqueue(&mut self, sum: &DeviceSum, watch: &Watch<'_>) -> Result<(), CollectiveError> {
        let comm = self.comm.as_ref().ok_or(CollectiveError::Broken)?;
        make_current(&*self.stream)?;
        self.pending_bytes += sum.bytes();
        // SAFETY: the stream is that of the GPU that the communicator was made on, and it was made current above.
        let status = unsafe { comm.all_reduce(sum, self.stream.handle()) };
        settle(comm, status, (SUMMING, self.deadlines.nccl), watch)
    }

    /// Waits until all that was put in is done.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub fn wait(&mut self, watch: &Watch<'_>) -> Result<(), CollectiveError> {
        let comm = self.comm.as_ref().ok_or(CollectiveError::Broken)?;
        let refused = |doing| move |said| CollectiveError::Gpu { doing, said };
        let mark = self.stream.mark();
        let mark = mark.map_err(refused("recording an event"))?;
        let moving = Duration::from_secs(self.pending_bytes / SLOW_BYTES_PER_SECOND);
        let within = self.deadlines.nccl + moving;
        self.pending_bytes = 0;
        let passed = poll(within, || {
            if mark.is_passed().map_err(refused("asking for an event"))? {
                return Ok(Some(()));
            }
            match comm.status() {
                Status::Success | Status::InProgress => watch.check().map(|()| None),
                Status::Failed(number) => Err(failed(comm, number, SUMMING, watch)),
            }
        });
        passed?.ok_or_else(|| stalled(comm, SUMMING, within))
    }

    /// Lets it end on a thread of its own when it is dropped.
    pub(super) fn ends(mut self, aside: &Arc<Aside>) -> Self {
        self.aside = Some(Arc::clone(aside));
        self
    }

    /// Leaves it as it is, to the end of the process.
    pub(super) fn leave(mut self) {
        self.comm = None;
    }

    /// Ends it, and what of it is still in the stream. Where NCCL does not return in time, the process ends.
    pub fn abort(&mut self) {
        if let Some(comm) = self.comm.take() {
            end(comm, &*self.stream, self.deadlines.abort);
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let Some(aside) = self.aside.take() else {
            return self.abort();
        };
        if let Some(comm) = self.comm.take() {
            let (stream, within) = (Arc::clone(&self.stream), self.deadlines.abort);
            aside.run(move || end(comm, &*stream, within));
        }
    }
}

fn end(comm: Comm, stream: &dyn GpuStream, within: Duration) {
    let start = Instant::now();
    if let Err(error) = make_current(stream) {
        warn!(%error, "a communicator is aborted all the same");
    }
    match abort::or_exit(within, || comm.abort()) {
        Status::Success | Status::InProgress => {
            debug!(
                seconds = start.elapsed().as_secs_f64(),
                "a communicator ended"
            );
        }
        Status::Failed(number) => {
            warn!(
                number,
                "NCCL aborts a communicator with an error; it may not be whole any more"
            );
        }
    }
}

/// Waits until a call is no longer in progress: NCCL takes no other before.
fn settle(
    comm: &Comm,
    mut status: Status,
    (doing, within): (&'static str, Duration),
    watch: &Watch<'_>,
) -> Result<(), CollectiveError> {
    let settled = poll(within, || {
        if status == Status::InProgress {
            status = comm.status();
        }
        match status {
            Status::Success => Ok(Some(())),
            Status::Failed(number) => Err(failed(comm, number, doing, watch)),
            Status::InProgress => watch.check().map(|()| None),
        }
    });
    settled?.ok_or_else(|| stalled(comm, doing, within))
}

/// A member that is lost is why NCCL fails, where both are seen.
fn failed(comm: &Comm, number: i32, doing: &'static str, watch: &Watch<'_>) -> CollectiveError {
    watch
        .check()
        .err()
        .unwrap_or_else(|| CollectiveError::Nccl {
            doing,
            said: comm.words(number),
            library: comm.nccl().to_string(),
        })
}

fn stalled(comm: &Comm, doing: &'static str, waited: Duration) -> CollectiveError {
    CollectiveError::NcclStalled {
        doing,
        waited,
        library: comm.nccl().to_string(),
    }
}

fn make_current(stream: &dyn GpuStream) -> Result<(), CollectiveError> {
    stream.make_current().map_err(|said| CollectiveError::Gpu {
        doing: "turning to its GPU",
        said,
    })
}
