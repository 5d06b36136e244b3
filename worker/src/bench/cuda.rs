//! Measurements on a GPU: the one place here that knows its backend.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::rates::Measured;
use super::run::{self, BenchError, Job};
use super::{StepReport, StepSettings};
use crate::counter::Counter;
use crate::cuda::{GpuError, GpuFacts};
use crate::ops::cuda::{Add, Cuda, Lay, OpClass, Product};
use crate::quant::{Nf4Matrix, nf4};

/// Bytes that are copied: more than caches hold.
const COPY_BYTES: usize = 1 << 30;

/// Work is repeated so long until the GPU is as warm as a step makes it, and then so long to time it: at full load a GPU
/// lowers its clock after some tens of milliseconds.
const SUSTAINED: Duration = Duration::from_millis(150);

/// Repetitions between two looks at the clock.
const REPEATS: u32 = 10;

/// Numbers that operands are filled with, again and again. What a product costs in power, and so in time, depends on them.
const PERIOD: usize = 15_625 * nf4::BLOCK;

/// Measures `job` on a GPU, whose compiled kernels are kept in a folder.
pub(super) fn measure(
    place: (&GpuFacts, &Path),
    job: Job<'_>,
    settings: &StepSettings,
) -> Result<StepReport, BenchError> {
    let recipe = settings.recipe(&job.model);
    let cuda = Cuda::for_job(place, &recipe, (&job.spec, settings.slot_tokens()))?;
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
    let half = kernels.gpu().half();
    let numbers = |len: usize, period: &[f32]| -> Vec<_> {
        half.round(period).into_iter().cycle().take(len).collect()
    };
    let a = kernels.upload_halves(m, k, &numbers(m * k, &activations()))?;
    let b = kernels.upload_halves(n, k, &numbers(n * k, &weights()))?;
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

/// Numbers as a norm's output has them: normally distributed.
fn activations() -> Vec<f32> {
    let random = Counter::new(1, "activations");
    (0..PERIOD as u64)
        .map(|i| random.normal(i) as f32)
        .collect()
}

/// Numbers as a dequantized matrix has them: few ones, times the scale of their block.
fn weights() -> Vec<f32> {
    let matrix = Nf4Matrix::quantize(1, PERIOD, &activations());
    let mut numbers = vec![0.0; PERIOD];
    matrix.dequantize_rows_into(0..1, &mut numbers);
    numbers
}

/// Mean seconds of work that is asked for back to back, at the clock that the GPU holds under it.
fn timed(cuda: &Cuda, mut work: impl FnMut() -> Result<(), GpuError>) -> Result<f64, GpuError> {
    let mut repeat = || {
        let (start, mut times) = (Instant::now(), 0);
        while start.elapsed() < SUSTAINED {
            for _ in 0..REPEATS {
                work()?;
            }
            times += REPEATS;
            cuda.wait()?;
        }
        Ok(start.elapsed().as_secs_f64() / f64::from(times))
    };
    repeat()?;
    repeat()
}
