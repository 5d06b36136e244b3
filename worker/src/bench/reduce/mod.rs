//! Measures an all-reduce on the real link: forming, summing, forming again, and giving up in the middle.

mod gpu;
mod memory;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::gpu::GpuMemory;
pub use self::memory::{HostMemory, Memory};
use super::Spread;
use super::scaling::Link;
use crate::collective::nccl::{self, Deadlines};
use crate::collective::{Cancel, Collective, CollectiveError, Ring};
use crate::cuda::nccl::Element;

/// Elements of a sum that is all latency.
const SMALL: usize = 512;

/// How long members are inside a sum that one of them never joins, before they are called off.
const ABANDONED_FOR: Duration = Duration::from_millis(200);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReduceSettings {
    /// 64-bit integers of the large sum: the adapter's parameters.
    pub elements: usize,
    /// How often each sum is repeated; the median counts.
    pub repeats: u32,
}

/// Forms rings of the same members, one after another.
pub trait Former {
    /// Forms the next one. Every member makes the same calls.
    ///
    /// # Errors
    /// The ring's.
    fn form(&mut self, cancel: &Cancel) -> Result<Ring, CollectiveError>;
}

/// Sums of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SumTimes {
    /// How many numbers.
    pub elements: usize,
    /// Bytes of all of them.
    pub bytes: f64,
    /// Seconds of a sum.
    pub seconds: Spread,
    /// Bytes per second that pass each member in each direction at the median: 2(W−1)/W of the bytes.
    pub bus_bytes_per_second: f64,
}

/// What a member measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReduceReport {
    /// Members.
    pub world: u32,
    /// Whether sums go over NCCL, from GPU to GPU; else through host memory and TCP.
    pub over_nccl: bool,
    /// Forming the first collective, looking for each other included.
    pub form_seconds: f64,
    /// Forming one anew in the same processes.
    pub form_again_seconds: f64,
    /// From calling off a sum that a member never joins until nothing of the collective is left.
    pub abort_seconds: f64,
    /// A sum that is all latency.
    pub small: SumTimes,
    /// A sum of the asked size.
    pub large: SumTimes,
    /// The same in single precision, whose result depends on the order; over NCCL alone.
    pub float32: Option<SumTimes>,
    /// The same in bfloat16.
    pub bfloat16: Option<SumTimes>,
    /// The link that both sums come to; nothing where they do not tell latency from bandwidth.
    pub link: Option<Link>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReduceError {
    /// The collective failed.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// The collective gave a wrong sum.
    #[error("element {element} of a sum over {world} members is {found} where {expected} is right")]
    Wrong {
        /// Which element.
        element: usize,
        /// Members.
        world: u32,
        /// What came out.
        found: i64,
        /// What is right.
        expected: i64,
    },
}

/// Measures among the members that `former` connects; each of them calls this at the same time. **Cost**: `repeats` sums of
/// each kind, and a few times the large sum's bytes in memory.
///
/// # Errors
/// The collective's, or a sum that is wrong.
pub fn measure_reduce(
    former: &mut dyn Former,
    memory: &mut dyn Memory,
    settings: &ReduceSettings,
) -> Result<ReduceReport, ReduceError> {
    let cancel = Cancel::new();
    let elements = settings.elements.max(SMALL);
    let (form_seconds, mut collective) = timed(|| form(former, memory, &cancel))?;
    let collected = &mut *collective;
    let over_nccl = collected.on_gpus().is_some();
    let mut sum =
        |element, elements| sums(collected, memory, (element, elements), settings.repeats);
    let small = sum(Element::I64, SMALL)?;
    let large = sum(Element::I64, elements)?;
    let mut narrower = |element| over_nccl.then(|| sum(element, elements)).transpose();
    let (float32, bfloat16) = (narrower(Element::F32)?, narrower(Element::Bf16)?);
    let world = collective.world();
    drop(collective);
    memory.count_in(Element::I64);
    let (form_again_seconds, collective) = timed(|| form(former, memory, &cancel))?;
    memory.hold(elements, 1)?;
    let abort_seconds = abandon(collective, memory)?;
    let pair = |times: &SumTimes| (times.bytes, times.seconds.median);
    Ok(ReduceReport {
        world,
        over_nccl,
        form_seconds,
        form_again_seconds,
        abort_seconds,
        small,
        large,
        float32,
        bfloat16,
        link: Link::of_measured(world, pair(&small), pair(&large)),
    })
}

/// A ring, with NCCL beside it where all members can.
fn form(
    former: &mut dyn Former,
    memory: &dyn Memory,
    cancel: &Cancel,
) -> Result<Box<dyn Collective>, CollectiveError> {
    let ring = former.form(cancel)?;
    nccl::form(ring, memory.link(), Deadlines::default(), cancel)
}

fn timed<T>(
    work: impl FnOnce() -> Result<T, CollectiveError>,
) -> Result<(f64, T), CollectiveError> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

/// Times `repeats` sums, each right after all have met, and looks at what comes out where it is integers.
fn sums(
    collective: &mut dyn Collective,
    memory: &mut dyn Memory,
    (element, elements): (Element, usize),
    repeats: u32,
) -> Result<SumTimes, ReduceError> {
    let cancel = Cancel::new();
    let world = i64::from(collective.world());
    let own = i64::from(collective.rank().0) + 1;
    let mut seconds = Vec::new();
    memory.count_in(element);
    // The first sum finds cold buffers.
    for _ in 0..=repeats.max(1) {
        memory.hold(elements, own)?;
        collective.all_reduce_sum(&mut [0], &cancel)?;
        let (taken, ()) = timed(|| memory.sum(collective, &cancel))?;
        seconds.push(taken);
        if element == Element::I64 {
            check(
                &memory.numbers()?,
                world * (world + 1) / 2,
                collective.world(),
            )?;
        }
    }
    let seconds = Spread::of(&seconds[1..]);
    let bytes = (elements * element.bytes()) as f64;
    let passed = 2.0 * (world - 1) as f64 / world as f64 * bytes;
    Ok(SumTimes {
        elements,
        bytes,
        seconds,
        bus_bytes_per_second: passed / seconds.median,
    })
}

fn check(numbers: &[i64], expected: i64, world: u32) -> Result<(), ReduceError> {
    match numbers.iter().position(|found| *found != expected) {
        None => Ok(()),
        Some(element) => Err(ReduceError::Wrong {
            element,
            world,
            found: numbers[element],
            expected,
        }),
    }
}

/// The last member joins no sum; the others are called off inside one. Gives how long it takes them to get out.
fn abandon(
    mut collective: Box<dyn Collective>,
    memory: &mut dyn Memory,
) -> Result<f64, ReduceError> {
    let cancel = Cancel::new();
    if collective.rank().0 + 1 == collective.world() {
        thread::sleep(ABANDONED_FOR);
        let start = Instant::now();
        drop(collective);
        return Ok(start.elapsed().as_secs_f64());
    }
    let told = cancel.clone();
    let (called, when) = mpsc::channel();
    thread::spawn(move || {
        thread::sleep(ABANDONED_FOR / 2);
        let at = Instant::now();
        told.cancel();
        // Nobody waits any more where the measurement failed.
        let _ = called.send(at);
    });
    let summed = memory.sum(&mut *collective, &cancel);
    drop(collective);
    let out = Instant::now();
    // In a ring the first to hang up brings the others out before they are called off.
    if summed.is_ok() {
        return Err(CollectiveError::Broken.into());
    }
    let at = when.recv().unwrap_or(out);
    Ok(out.saturating_duration_since(at).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use weft_common::id::{Epoch, Rank, Term};

    use super::*;
    use crate::collective::{RingKey, RingListener, RingPlan};

    struct Rings {
        listener: RingListener,
        members: Vec<SocketAddr>,
        rank: usize,
        epoch: u64,
    }

    impl Former for Rings {
        fn form(&mut self, cancel: &Cancel) -> Result<Ring, CollectiveError> {
            self.epoch += 1;
            let plan = RingPlan {
                key: RingKey {
                    job: "job-bench".parse().unwrap(),
                    term: Term(1),
                    epoch: Epoch(self.epoch),
                },
                members: self.members.clone(),
                rank: Rank(self.rank as u32),
                form_within: Duration::from_secs(20),
                hop_within: Duration::from_secs(20),
            };
            Ring::form(&self.listener, &plan, cancel)
        }
    }

    #[test]
    fn members_measure_each_phase_on_a_real_ring() {
        const WORLD: usize = 3;
        let bind = |_| RingListener::bind(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let listeners: Vec<RingListener> = (0..WORLD).map(bind).collect();
        let members: Vec<SocketAddr> = listeners.iter().map(RingListener::address).collect();
        let settings = ReduceSettings {
            elements: 20_000,
            repeats: 3,
        };
        let measure = |(rank, listener)| {
            let mut rings = Rings {
                listener,
                members: members.clone(),
                rank,
                epoch: 0,
            };
            thread::spawn(move || measure_reduce(&mut rings, &mut HostMemory::default(), &settings))
        };
        let threads: Vec<_> = listeners.into_iter().enumerate().map(measure).collect();
        for thread in threads {
            let report = thread.join().unwrap().unwrap();
            assert_eq!((report.world, report.large.elements), (3, 20_000));
            assert!(report.form_seconds > 0.0 && report.form_again_seconds > 0.0);
            assert!(report.abort_seconds < 5.0, "{report:?}");
            assert!(report.large.bus_bytes_per_second > 0.0);
        }
    }

    #[test]
    fn a_sum_that_is_wrong_is_told_with_its_place() {
        let wrong = check(&[3, 3, 4], 3, 2).unwrap_err().to_string();
        assert!(
            wrong.contains("element 2") && wrong.contains("is 4 where 3"),
            "{wrong}"
        );
    }
}
