//! Members over the stand-in for NCCL.

#![allow(unsafe_code, reason = "promises the memory of sums")]

mod broken;
mod formed;

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use weft_common::id::{Epoch, Rank, Term};

use super::stub::Stub;
use super::{Deadlines, GpuLink, GpuSums, form};
use crate::collective::{
    Cancel, Collective, CollectiveError, Ring, RingKey, RingListener, RingPlan,
};
use crate::cuda::nccl::{DeviceSum, Element};

/// Far more than any of these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// For tests in which nothing is to be waited for.
const PATIENT: Deadlines = Deadlines {
    nccl: PATIENCE,
    ring: PATIENCE,
    abort: PATIENCE,
};

/// For tests of what takes for ever.
const IMPATIENT: Deadlines = Deadlines {
    nccl: Duration::from_millis(300),
    ring: PATIENCE,
    abort: PATIENCE,
};

type Formed = Result<Box<dyn Collective>, CollectiveError>;

/// Forms members with these links, one thread each, and gives what `then` makes of each, by rank.
fn members<T: Send>(
    links: &[Option<GpuLink>],
    deadlines: Deadlines,
    then: impl Fn(usize, Formed) -> T + Sync,
) -> Vec<T> {
    let listener = |_| RingListener::bind(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let listeners: Vec<RingListener> = (0..links.len()).map(listener).collect();
    let members: Vec<_> = listeners.iter().map(RingListener::address).collect();
    let member = |rank: usize| {
        let plan = RingPlan {
            key: RingKey {
                job: "job-nccl".parse().unwrap(),
                term: Term(1),
                epoch: Epoch(1),
            },
            members: members.clone(),
            rank: Rank(rank as u32),
            form_within: PATIENCE,
            hop_within: PATIENCE,
        };
        let cancel = Cancel::new();
        let ring = Ring::form(&listeners[rank], &plan, &cancel).unwrap();
        then(rank, form(ring, links[rank].as_ref(), deadlines, &cancel))
    };
    thread::scope(|scope| {
        let member = &member;
        let threads: Vec<_> = (0..links.len())
            .map(|rank| scope.spawn(move || member(rank)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A link for each member, every one with its own GPU.
fn links(stub: &Stub, world: u8) -> Vec<Option<GpuLink>> {
    (0..world).map(|gpu| Some(stub.link(gpu))).collect()
}

/// Numbers that differ by rank and position and use all 64 bits.
fn terms(rank: usize, len: usize) -> Vec<i64> {
    let mix = |i: usize| (i as i64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    (0..len).map(|i| mix(i * 64 + rank)).collect()
}

/// A sum over NCCL from one buffer to another.
fn sum(
    gpus: &mut dyn GpuSums,
    from: &[i64],
    to: &mut [i64],
    cancel: &Cancel,
) -> Result<(), CollectiveError> {
    assert_eq!(from.len(), to.len());
    // SAFETY: both live until the wait is over, and no error leaves anything of the sum behind.
    let sum = unsafe {
        DeviceSum::new(
            from.as_ptr() as u64,
            to.as_mut_ptr() as u64,
            from.len(),
            Element::I64,
        )
    };
    gpus.enqueue(&sum, cancel)?;
    gpus.wait(cancel)
}
