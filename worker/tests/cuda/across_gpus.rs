//! Gradient sums over two GPUs: over NCCL the same bits as through host memory. Needs two GPUs and NCCL; says loudly where
//! they are missing.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use weft_common::id::{Epoch, Rank, Term};
use weft_worker::collective::nccl::{Deadlines, form};
use weft_worker::collective::{Cancel, Collective, Ring, RingKey, RingListener, RingPlan};
use weft_worker::cuda::Inventory;
use weft_worker::cuda::library::Environment;
use weft_worker::ops::Ops;
use weft_worker::ops::cuda::{Cuda, CudaOptions, CudaSums};
use weft_worker::train::Backend;

use crate::support::{gpu, opened, random};

const WORLD: usize = 2;

/// More than one bucket of sums that lie in host memory, and no whole number of them.
const LEN: usize = (5 << 20) + 4096;

const WITHIN: Duration = Duration::from_secs(60);

fn inventory() -> Inventory {
    Inventory::take(&Environment::of_process())
}

/// Whether there are two GPUs and NCCL; said aloud where not.
fn can() -> bool {
    if gpu().is_none() {
        return false;
    }
    let found = inventory();
    let gpus = found.gpus.map_or(0, |gpus| gpus.len());
    if gpus >= WORLD && found.nccl.is_ok() {
        return true;
    }
    println!(
        "SKIPPED: {gpus} of {WORLD} GPUs; {}",
        found
            .nccl
            .map_or_else(|missing| missing.to_string(), |nccl| nccl.to_string())
    );
    false
}

/// Both members are threads of one process, between which NCCL reads buffers directly unless this says otherwise; memory
/// that is allocated in the order of a stream is not open to other GPUs.
const ONE_PROCESS: &str = "NCCL_P2P_DIRECT_DISABLE";

/// Runs a test in a process of its own, with what NCCL must be told, where there are GPUs for it.
fn on_its_own(test: &str, then: impl FnOnce()) {
    if !can() {
        return;
    }
    if std::env::var_os(ONE_PROCESS).is_some() {
        return then();
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("across_gpus::{test}"), "--nocapture"])
        .env(ONE_PROCESS, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} ends with {status}");
}

/// One member: its GPU with gradients in its sums, and where its rings listen.
struct Member<'a> {
    rank: usize,
    cuda: Cuda,
    sums: CudaSums,
    listener: &'a RingListener,
    plan: RingPlan,
}

impl Member<'_> {
    fn ring(&mut self) -> Ring {
        let ring = Ring::form(self.listener, &self.plan, &Cancel::new()).unwrap();
        self.plan.key.epoch = Epoch(self.plan.key.epoch.0 + 1);
        ring
    }

    fn over_nccl(&mut self) -> Box<dyn Collective> {
        let (ring, link) = (self.ring(), self.cuda.gpu_link());
        let mut formed = form(ring, link.as_ref(), Deadlines::default(), &Cancel::new()).unwrap();
        assert!(formed.on_gpus().is_some(), "NCCL was not used");
        formed
    }

    /// Digest and part, which tell every bit.
    fn reduce(&mut self, collective: &mut dyn Collective) -> String {
        let reduced = self
            .cuda
            .reduce(&mut self.sums, collective, &Cancel::new())
            .unwrap();
        format!("{reduced:?}")
    }
}

/// Runs two members, each on a thread and a GPU of its own.
fn on_two_gpus(lean: bool, then: impl Fn(Member<'_>) + Sync) {
    let listeners: Vec<_> = (0..WORLD)
        .map(|_| RingListener::bind(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap())
        .collect();
    let members: Vec<_> = listeners.iter().map(RingListener::address).collect();
    thread::scope(|scope| {
        for (rank, listener) in listeners.iter().enumerate() {
            let (members, then) = (members.clone(), &then);
            scope.spawn(move || {
                let options = CudaOptions {
                    ordinal: rank,
                    head_dim: 64,
                    rank: 8,
                    half: None,
                    lean,
                    memory_limit: None,
                };
                let cuda = opened(options).unwrap().with_nccl(inventory().nccl);
                let mut sums = cuda.new_sums(LEN);
                let grads = cuda.upload(random(LEN, rank as u64));
                cuda.add(&mut sums, 0..LEN, &grads, 1.0);
                cuda.end_slot(&mut sums);
                then(Member {
                    rank,
                    cuda,
                    sums,
                    listener,
                    plan: RingPlan {
                        key: RingKey {
                            job: "job-gpus".parse().unwrap(),
                            term: Term(1),
                            epoch: Epoch(1),
                        },
                        members,
                        rank: Rank(rank as u32),
                        form_within: WITHIN,
                        hop_within: WITHIN,
                    },
                });
            });
        }
    });
}

#[test]
fn sums_over_nccl_have_the_bits_of_sums_through_host_memory() {
    let test = "sums_over_nccl_have_the_bits_of_sums_through_host_memory";
    on_its_own(test, || {
        for lean in [false, true] {
            on_two_gpus(lean, |member| sums_are_the_same(member, lean));
        }
    });
}

fn sums_are_the_same(mut member: Member<'_>, lean: bool) {
    let mut ring = member.ring();
    let through_host = member.reduce(&mut ring);
    drop(ring);
    // A membership ends and another one begins; each sums twice.
    for _ in 0..3 {
        let mut over_nccl = member.over_nccl();
        for _ in 0..2 {
            let summed = member.reduce(&mut *over_nccl);
            assert_eq!(summed, through_host, "rank {}, lean: {lean}", member.rank);
        }
    }
}

#[test]
fn a_member_that_ends_inside_a_sum_is_noticed_and_the_gpu_goes_on() {
    let test = "a_member_that_ends_inside_a_sum_is_noticed_and_the_gpu_goes_on";
    on_its_own(test, || {
        on_two_gpus(false, |mut member| {
            let mut over_nccl = member.over_nccl();
            let whole = member.reduce(&mut *over_nccl);
            // Of rank 0, the part of the second sum never comes.
            if member.rank == 1 {
                let cancel = Cancel::new();
                let lost = member
                    .cuda
                    .reduce(&mut member.sums, &mut *over_nccl, &cancel);
                println!("{}", lost.unwrap_err());
            }
            drop(over_nccl);
            let mut over_nccl = member.over_nccl();
            assert_eq!(member.reduce(&mut *over_nccl), whole);
        });
    });
}
