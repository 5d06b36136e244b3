//! Where a step's time on the GPU goes, by class of work.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cudarc::driver::CudaEvent;
use cudarc::driver::sys::CUevent_flags;

use super::{Cuda, locked};
use crate::cuda::GpuError;

/// A class of work on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpClass {
    /// Weights to 16 bit.
    Dequantize,
    /// Products with frozen weights, adapters folded in.
    Product,
    /// Products of which one dimension is a rank.
    Adapter,
    /// Attention, forward and backward.
    Attention,
    /// Norms, rotations, gated units, and moves of rows.
    Elementwise,
    /// The head's products.
    Head,
    /// Softmax and loss.
    CrossEntropy,
    /// Exact sums and digests.
    Sums,
    /// Clipping and optimizer.
    Update,
}

impl OpClass {
    /// Its name for people and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dequantize => "dequantize",
            Self::Product => "product",
            Self::Adapter => "adapter",
            Self::Attention => "attention",
            Self::Elementwise => "elementwise",
            Self::Head => "head",
            Self::CrossEntropy => "cross_entropy",
            Self::Sums => "sums",
            Self::Update => "update",
        }
    }
}

/// Begin and end of work, in the order in which it was asked for; nothing while nobody measures.
#[derive(Default)]
pub(super) struct Profile(Mutex<Option<Vec<(OpClass, CudaEvent, CudaEvent)>>>);

impl Cuda {
    /// Measures from now on. Cost: two events an op, some microseconds of host time.
    pub fn start_profile(&self) {
        *locked(&self.profile.0) = Some(Vec::new());
    }

    /// Seconds of each class since [`Self::start_profile`], which this ends. Waits.
    ///
    /// # Errors
    /// The driver's.
    pub fn end_profile(&self) -> Result<BTreeMap<OpClass, f64>, GpuError> {
        let spans = locked(&self.profile.0).take().unwrap_or_default();
        let mut seconds = BTreeMap::new();
        for (class, begin, end) in spans {
            let elapsed = end
                .synchronize()
                .and_then(|()| begin.elapsed_ms(&end))
                .map_err(self.kernels.during("reading the time"))?;
            *seconds.entry(class).or_insert(0.0) += f64::from(elapsed) / 1e3;
        }
        Ok(seconds)
    }

    /// Does `work`, and notes its begin and end where somebody measures.
    pub(super) fn timed<T>(
        &self,
        class: OpClass,
        work: impl FnOnce() -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        if locked(&self.profile.0).is_none() {
            return work();
        }
        let begin = self.mark()?;
        let result = work()?;
        let end = self.mark()?;
        if let Some(spans) = &mut *locked(&self.profile.0) {
            spans.push((class, begin, end));
        }
        Ok(result)
    }

    fn mark(&self) -> Result<CudaEvent, GpuError> {
        let timing = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let event = self.kernels.gpu().stream().record_event(timing);
        event.map_err(self.kernels.during("noting the time"))
    }
}
