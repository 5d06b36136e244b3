//! Sums of GPU memory, and the collective that has them.

use weft_common::failpoint;
use weft_common::id::Rank;

use super::{Communicator, Watch};
use crate::collective::{Cancel, Collective, CollectiveError, Neighbours, Ring};
use crate::cuda::nccl::DeviceSum;

/// Sums of GPU memory over all members, put into the stream of the engine's GPU.
pub trait GpuSums {
    /// Puts a sum into the stream. All members put in the same sums in the same order.
    ///
    /// # Errors
    /// On any error the receiving memory is unspecified, nothing of the collective is left in the stream, and the
    /// collective is of no further use.
    fn enqueue(&mut self, sum: &DeviceSum, cancel: &Cancel) -> Result<(), CollectiveError>;

    /// Waits until everything in the stream is done.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    fn wait(&mut self, cancel: &Cancel) -> Result<(), CollectiveError>;
}

/// A ring for host memory, and NCCL for that of GPUs. The ring ends first: the neighbours hear of it, and abort too.
#[derive(Debug)]
pub(super) struct BesideRing {
    ring: Ring,
    neighbours: Neighbours,
    communicator: Communicator,
}

impl BesideRing {
    pub(super) fn new(ring: Ring, communicator: Communicator, neighbours: Neighbours) -> Self {
        Self {
            ring,
            neighbours,
            communicator,
        }
    }
}

impl Collective for BesideRing {
    fn world(&self) -> u32 {
        self.ring.world()
    }

    fn rank(&self) -> Rank {
        self.ring.rank()
    }

    fn all_reduce_sum(&mut self, buf: &mut [i64], cancel: &Cancel) -> Result<(), CollectiveError> {
        self.ring.all_reduce_sum(buf, cancel)
    }

    fn on_gpus(&mut self) -> Option<&mut dyn GpuSums> {
        Some(self)
    }
}

impl BesideRing {
    /// Does something with the communicator, which ends with the first error.
    fn attempt(
        &mut self,
        cancel: &Cancel,
        work: impl FnOnce(&mut Communicator, &Watch<'_>) -> Result<(), CollectiveError>,
    ) -> Result<(), CollectiveError> {
        let watch = Watch {
            cancel,
            neighbours: Some(&self.neighbours),
        };
        let done = work(&mut self.communicator, &watch);
        if done.is_err() {
            // The neighbours hear of it first: NCCL's abort takes its time, and less of it where all members abort.
            self.ring.hang_up();
            self.neighbours = Neighbours::default();
            self.communicator.abort();
        }
        done
    }
}

impl GpuSums for BesideRing {
    fn enqueue(&mut self, sum: &DeviceSum, cancel: &Cancel) -> Result<(), CollectiveError> {
        self.attempt(cancel, |communicator, watch| {
            communicator.enqueue(sum, watch)
        })
    }

    fn wait(&mut self, cancel: &Cancel) -> Result<(), CollectiveError> {
        failpoint::hit("reducing");
        self.attempt(cancel, Communicator::wait)
    }
}
