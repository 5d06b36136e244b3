//! Measures an all-reduce on the real link: forming, summing, forming again, and giving up in the middle.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Spread;
use super::scaling::Link;
use crate::collective::{Cancel, Collective, CollectiveError};

/// Elements of a sum that is all latency.
const SMALL: usize = 512;

/// How long members are inside a sum that one of them never joins, before they are called off.
const ABANDONED_FOR: Duration = Duration::from_millis(200);

/// Bytes of an element.
const ELEMENT: f64 = 8.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReduceSettings {
    /// 64-bit integers of the large sum: the adapter's parameters.
    pub elements: usize,
    /// How often each sum is repeated; the median counts.
    pub repeats: u32,
}

/// Forms collectives among the same members, one after another.
pub trait Former {
    /// Forms the next one. Every member makes the same calls.
    ///
    /// # Errors
    /// The collective's.
    fn form(&mut self, cancel: &Cancel) -> Result<Box<dyn Collective>, CollectiveError>;
}

/// Sums of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SumTimes {
    /// 64-bit integers.
    pub elements: usize,
    /// Their bytes.
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
/// both sizes, and twice the large sum's bytes in memory.
///
/// # Errors
/// The collective's, or a sum that is wrong.
pub fn measure_reduce(
    former: &mut dyn Former,
    settings: &ReduceSettings,
) -> Result<ReduceReport, ReduceError> {
    let cancel = Cancel::new();
    let (form_seconds, mut collective) = timed(|| former.form(&cancel))?;
    let small = sums(&mut *collective, SMALL, settings.repeats)?;
    let large = sums(
        &mut *collective,
        settings.elements.max(SMALL),
        settings.repeats,
    )?;
    let world = collective.world();
    drop(collective);
    let (form_again_seconds, collective) = timed(|| former.form(&cancel))?;
    let abort_seconds = abandon(collective, settings.elements.max(SMALL))?;
    let pair = |times: &SumTimes| (times.bytes, times.seconds.median);
    Ok(ReduceReport {
        world,
        form_seconds,
        form_again_seconds,
        abort_seconds,
        small,
        large,
        link: Link::of_measured(world, pair(&small), pair(&large)),
    })
}

fn timed<T>(
    work: impl FnOnce() -> Result<T, CollectiveError>,
) -> Result<(f64, T), CollectiveError> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

/// Times `repeats` sums, each right after all have met, and looks at what comes out.
fn sums(
    collective: &mut dyn Collective,
    elements: usize,
    repeats: u32,
) -> Result<SumTimes, ReduceError> {
    let cancel = Cancel::new();
    let world = i64::from(collective.world());
    let own = i64::from(collective.rank().0) + 1;
    let mut buf = vec![0; elements];
    let mut seconds = Vec::new();
    // The first sum finds cold buffers.
    for _ in 0..=repeats.max(1) {
        buf.fill(own);
        collective.all_reduce_sum(&mut [0], &cancel)?;
        let (taken, ()) = timed(|| collective.all_reduce_sum(&mut buf, &cancel))?;
        seconds.push(taken);
        check(&buf, world * (world + 1) / 2, collective.world())?;
    }
    let seconds = Spread::of(&seconds[1..]);
    let bytes = elements as f64 * ELEMENT;
    let passed = 2.0 * (world - 1) as f64 / world as f64 * bytes;
    Ok(SumTimes {
        elements,
        bytes,
        seconds,
        bus_bytes_per_second: passed / seconds.median,
    })
}

fn check(buf: &[i64], expected: i64, world: u32) -> Result<(), ReduceError> {
    match buf.iter().position(|found| *found != expected) {
        None => Ok(()),
        Some(element) => Err(ReduceError::Wrong {
            element,
            world,
            found: buf[element],
            expected,
        }),
    }
}

/// The last member joins no sum; the others are called off inside one. Gives how long it takes them to get out.
fn abandon(mut collective: Box<dyn Collective>, elements: usize) -> Result<f64, ReduceError> {
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
    let summed = collective.all_reduce_sum(&mut vec![1; elements], &cancel);
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
    use crate::collective::{Ring, RingKey, RingListener, RingPlan};

    struct Rings {
        listener: RingListener,
        members: Vec<SocketAddr>,
        rank: usize,
        epoch: u64,
    }

    impl Former for Rings {
        fn form(&mut self, cancel: &Cancel) -> Result<Box<dyn Collective>, CollectiveError> {
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
            Ok(Box::new(Ring::form(&self.listener, &plan, cancel)?))
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
            thread::spawn(move || measure_reduce(&mut rings, &settings))
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
