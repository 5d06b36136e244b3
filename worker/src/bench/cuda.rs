//! Measurements on a GPU: the one place here that knows its backend.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::rates::Measured;
use super::run::{self, BenchError, Job};
use super::{StepReport, StepSettings};
use crate::cuda::{GpuError, GpuFacts};
use crate::ops::cuda::{Add, Cuda, Lay, OpClass, Product};

/// Bytes that are copied: more than caches hold.
const COPY_BYTES: usize = 1 << 30;

/// Repetitions of what is timed, after as many that warm up.
const REPEATS: u32 = 10;

/// Measures `job` on a GPU, whose compiled kernels are kept in a folder.
pub(super) fn measure(
    place: (&GpuFacts, &Path),
    job: Job<'_>,
    settings: &StepSettings,
) -> Result<StepReport, BenchError> {
    let cuda = Cuda::for_job(place, &settings.recipe(&job.model), &job.spec)?;
    run::measure(cuda, job, settings)
}

impl Measured for Cuda {
    const ELEMENT_BYTES: usize = 2;

    fn gemm_flops(&self, mnk: [usize; 3]) -> f64 {
        let seconds = product_seconds(self, mnk);
        2.0 * mnk.iter().product::<usize>() as f64 / seconds.unwrap_or(f64::NAN)
    }

    fn copy_bytes(&self) -> f64 {
        2.0 * COPY_BYTES as f64 / copy_seconds(self).unwrap_or(f64::NAN)
    }

    fn start_profile(&self) {
        Self::start_profile(self);
    }

    fn end_profile(&self) -> BTreeMap<&'static str, f64> {
        let classes = Self::end_profile(self).unwrap_or_default();
        let named = |(class, seconds): (OpClass, f64)| (class.name(), seconds);
        classes.into_iter().map(named).collect()
    }

    fn device_memory_bytes(&self) -> Option<u64> {
        self.used_memory()
    }
}

fn product_seconds(cuda: &Cuda, [m, n, k]: [usize; 3]) -> Result<f64, GpuError> {
    let kernels = cuda.kernels();
    let numbers: Vec<half::bf16> = (0..m.max(n) * k)
        .map(|i| half::bf16::from_f32(((i * 7919) % 1013) as f32 / 506.5 - 1.0))
        .collect();
    let a = kernels.upload_halves(m, k, &numbers[..m * k])?;
    let b = kernels.upload_halves(n, k, &numbers[..n * k])?;
    let mut c = kernels.halves(1, &[(m * n).next_multiple_of(8)], 0)?;
    let product = Product::new([m, n, k], Lay::plain(k), Lay::transposed(k), n);
    timed(cuda, || {
        cuda.gemm().multiply(
            kernels,
            (product, 1.0),
            a.place(),
            b.place(),
            c[0].place_mut(),
            Add::Nothing,
        )
    })
}

fn copy_seconds(cuda: &Cuda) -> Result<f64, GpuError> {
    let kernels = cuda.kernels();
    let from = kernels.halves(1, &[COPY_BYTES / 2], 0)?;
    let mut to = kernels.halves(1, &[COPY_BYTES / 2], 0)?;
    timed(cuda, || {
        kernels.copy_halves(COPY_BYTES / 2, from[0].place(), to[0].place_mut())
    })
}

/// Mean seconds of work that is asked for back to back.
fn timed(cuda: &Cuda, mut work: impl FnMut() -> Result<(), GpuError>) -> Result<f64, GpuError> {
    for _ in 0..REPEATS {
        work()?;
    }
    cuda.wait()?;
    let start = Instant::now();
    for _ in 0..REPEATS {
        work()?;
    }
    cuda.wait()?;
    Ok(start.elapsed().as_secs_f64() / f64::from(REPEATS))
}
