//! Which neighbour ended a collective.

use weft_common::id::Rank;

use crate::collective::{Cancel, Collective, CollectiveError, GpuSums};
use crate::cuda::nccl::DeviceSum;

/// A collective whose error is looked at on its way through the engine.
pub(super) struct Watched<'a> {
    collective: &'a mut dyn Collective,
    /// The neighbour that is probably gone.
    pub(super) suspect: Option<Rank>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(collective: &'a mut dyn Collective) -> Self {
        Self {
            collective,
            suspect: None,
        }
    }

    fn noted<T>(&mut self, result: Result<T, CollectiveError>) -> Result<T, CollectiveError> {
        result.inspect_err(|error| self.suspect = error.suspect())
    }
}

impl Collective for Watched<'_> {
    fn world(&self) -> u32 {
        self.collective.world()
    }

    fn rank(&self) -> Rank {
        self.collective.rank()
    }

    fn all_reduce_sum(&mut self, buf: &mut [i64], cancel: &Cancel) -> Result<(), CollectiveError> {
        let summed = self.collective.all_reduce_sum(buf, cancel);
        self.noted(summed)
    }

    fn on_gpus(&mut self) -> Option<&mut dyn GpuSums> {
        let has = self.collective.on_gpus().is_some();
        has.then_some(self as &mut dyn GpuSums)
    }
}

impl GpuSums for Watched<'_> {
    fn enqueue(&mut self, sum: &DeviceSum, cancel: &Cancel) -> Result<(), CollectiveError> {
        let gpus = self.collective.on_gpus().ok_or(CollectiveError::Broken)?;
        let enqueued = gpus.enqueue(sum, cancel);
        self.noted(enqueued)
    }

    fn wait(&mut self, cancel: &Cancel) -> Result<(), CollectiveError> {
        let gpus = self.collective.on_gpus().ok_or(CollectiveError::Broken)?;
        let waited = gpus.wait(cancel);
        self.noted(waited)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Members who lose rank 2 in every sum of GPU memory.
    struct Losing;

    impl Collective for Losing {
        fn world(&self) -> u32 {
            3
        }

        fn rank(&self) -> Rank {
            Rank(1)
        }

        fn all_reduce_sum(&mut self, _: &mut [i64], _: &Cancel) -> Result<(), CollectiveError> {
            Ok(())
        }

        fn on_gpus(&mut self) -> Option<&mut dyn GpuSums> {
            Some(self)
        }
    }

    impl GpuSums for Losing {
        fn enqueue(&mut self, _: &DeviceSum, _: &Cancel) -> Result<(), CollectiveError> {
            Ok(())
        }

        fn wait(&mut self, _: &Cancel) -> Result<(), CollectiveError> {
            Err(CollectiveError::PeerLost {
                rank: Rank(2),
                address: ([127, 0, 0, 1], 1).into(),
                during: "summing",
                source: io::ErrorKind::UnexpectedEof.into(),
            })
        }
    }

    #[test]
    fn a_member_lost_in_a_sum_of_gpu_memory_is_suspected() {
        let mut losing = Losing;
        let mut watched = Watched::new(&mut losing);
        let gpus = watched.on_gpus().expect("the collective has them");
        gpus.wait(&Cancel::new()).unwrap_err();
        assert_eq!(watched.suspect, Some(Rank(2)));
    }
}
