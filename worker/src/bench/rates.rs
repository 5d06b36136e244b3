//! What a device can do at best, measured.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use crate::ops::{Cpu, Mat, Out};
use crate::train::Backend;

/// A backend whose rates and memory can be measured.
pub trait Measured: Backend {
    /// Bytes of an activation, and of a frozen weight as products read it.
    const ELEMENT_BYTES: usize;

    /// FLOP/s of products of `m × k` by `k × n`, two FLOPs a multiplication with its addition.
    fn gemm_flops(&self, mnk: [usize; 3]) -> f64;

    /// Bytes per second, read and written, of a copy within the device's memory.
    fn copy_bytes(&self) -> f64;

    /// Notes from now on where the device's time goes.
    fn start_profile(&self) {}

    /// Seconds of each class of work since then, by name; nothing where the device cannot tell.
    fn end_profile(&self) -> BTreeMap<&'static str, f64> {
        BTreeMap::new()
    }

    /// Memory of the device in use, as its driver counts it: what other processes hold is part of it. `None` where no
    /// driver counts.
    fn device_memory_bytes(&self) -> Option<u64>;
}

/// Larger dimensions change nothing in the rate of a product on a CPU, only in what it takes to measure it.
const CPU_MNK: [usize; 3] = [512, 16_384, 16_384];

/// A measurement goes on until it has taken so long.
const ENOUGH_SECONDS: f64 = 0.05;

/// Bytes that are copied: more than caches hold.
const COPY_BYTES: usize = 128 << 20;

impl Measured for Cpu {
    const ELEMENT_BYTES: usize = size_of::<f32>();

    fn gemm_flops(&self, mnk: [usize; 3]) -> f64 {
        let [m, n, k] = [0, 1, 2].map(|i| mnk[i].min(CPU_MNK[i]));
        let (a, b) = (vec![0.5; m * k], vec![0.25; k * n]);
        let mut c = vec![0.0; m * n];
        let seconds = fastest(|| {
            let (a, b) = (Mat::new(&a), Mat::transpose(&b));
            self.gemm([m, n, k], 1.0, a, b, Out::set(&mut c));
            black_box(&c);
        });
        2.0 * (m * n * k) as f64 / seconds
    }

    fn copy_bytes(&self) -> f64 {
        let from = vec![1_u8; COPY_BYTES];
        let mut to = vec![0_u8; COPY_BYTES];
        let part = COPY_BYTES.div_ceil(rayon::current_num_threads());
        let seconds = fastest(|| {
            let parts = to.par_chunks_mut(part).zip(from.par_chunks(part));
            parts.for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&to);
        });
        2.0 * COPY_BYTES as f64 / seconds
    }

    fn device_memory_bytes(&self) -> Option<u64> {
        None
    }
}

/// Seconds of the fastest of several runs, at least three.
fn fastest(mut work: impl FnMut()) -> f64 {
    let mut run = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let (mut best, mut spent) = (f64::INFINITY, 0.0);
    for runs in 1.. {
        let seconds = run();
        best = best.min(seconds);
        spent += seconds;
        if runs >= 3 && spent >= ENOUGH_SECONDS {
            break;
        }
    }
    best.max(f64::MIN_POSITIVE)
}
