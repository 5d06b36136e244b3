//! What is summed in a measurement: host memory here, a GPU's in [`GpuMemory`](super::GpuMemory).

use crate::collective::{Cancel, Collective, CollectiveError, GpuLink};
use crate::cuda::nccl::Element;

/// Memory of one member.
pub trait Memory {
    /// What of GPUs this member has to sum with.
    fn link(&self) -> Option<&GpuLink> {
        None
    }

    /// Looks at what it holds as elements of another kind from now on, of which as many are summed. Host memory holds
    /// 64-bit integers alone.
    fn count_in(&mut self, _element: Element) {}

    /// Replaces what it holds by so many times a number.
    ///
    /// # Errors
    /// There is no room.
    fn hold(&mut self, elements: usize, number: i64) -> Result<(), CollectiveError>;

    /// Sums what it holds over all members, and waits for that.
    ///
    /// # Errors
    /// The collective's.
    fn sum(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<(), CollectiveError>;

    /// What it holds.
    ///
    /// # Errors
    /// The device's.
    fn numbers(&mut self) -> Result<Vec<i64>, CollectiveError>;
}

/// Memory of the host.
#[derive(Debug, Default)]
pub struct HostMemory(Vec<i64>);

impl Memory for HostMemory {
    fn hold(&mut self, elements: usize, number: i64) -> Result<(), CollectiveError> {
        self.0.clear();
        self.0.resize(elements, number);
        Ok(())
    }

    fn sum(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<(), CollectiveError> {
        collective.all_reduce_sum(&mut self.0, cancel)
    }

    fn numbers(&mut self) -> Result<Vec<i64>, CollectiveError> {
        Ok(self.0.clone())
    }
}
