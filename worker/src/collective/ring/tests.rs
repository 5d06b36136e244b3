use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Instant;

use weft_common::id::Term;

use super::super::Refusal;
use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn key(epoch: u64) -> RingKey {
    RingKey {
        job: "job-ring".parse().unwrap(),
        term: Term(1),
        epoch: Epoch(epoch),
    }
}

fn plan(members: &[SocketAddr], rank: usize, epoch: u64) -> RingPlan {
    RingPlan {
        key: key(epoch),
        members: members.to_vec(),
        rank: Rank(rank as u32),
        form_within: Duration::from_secs(20),
        hop_within: Duration::from_secs(20),
    }
}

fn listeners(world: usize) -> (Vec<RingListener>, Vec<SocketAddr>) {
    let listeners: Vec<_> = (0..world)
        .map(|_| RingListener::bind(LOOPBACK).unwrap())
        .collect();
    let members = listeners.iter().map(RingListener::address).collect();
    (listeners, members)
}

/// Runs `member` on one thread a rank, each with its formed ring, and returns what they return, by rank.
fn on_ring<T: Send>(world: usize, member: impl Fn(usize, Ring) -> T + Sync) -> Vec<T> {
    let (listeners, members) = listeners(world);
    thread::scope(|scope| {
        let threads: Vec<_> = listeners
            .iter()
            .enumerate()
            .map(|(rank, listener)| {
                let (plan, member) = (plan(&members, rank, 0), &member);
                scope.spawn(move || {
                    member(rank, Ring::form(listener, &plan, &Cancel::new()).unwrap())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Numbers that differ by rank and position and use all 64 bits.
fn terms(rank: usize, len: usize, call: usize) -> Vec<i64> {
    let mix = |i: usize| (i as i64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    (0..len).map(|i| mix(i * 64 + rank * 8 + call)).collect()
}

fn expected(world: usize, len: usize, call: usize) -> Vec<i64> {
    let mut sum = vec![0i64; len];
    for rank in 0..world {
        for (sum, term) in sum.iter_mut().zip(terms(rank, len, call)) {
            *sum = sum.wrapping_add(term);
        }
    }
    sum
}

#[test]
fn every_member_ends_with_the_sum() {
    // Longer than any socket buffer, odd, shorter than the world, empty.
    let lengths = [3_000_001, 4097, 2, 1, 0];
    for world in [1, 2, 3, 5, 8] {
        let sums = on_ring(world, |rank, mut ring| {
            assert_eq!(
                (ring.world() as usize, ring.rank().0 as usize),
                (world, rank)
            );
            let reduce = |(call, len): (usize, &usize)| {
                let mut buf = terms(rank, *len, call);
                ring.all_reduce_sum(&mut buf, &Cancel::new()).unwrap();
                buf
            };
            lengths.iter().enumerate().map(reduce).collect::<Vec<_>>()
        });
        for (call, len) in lengths.iter().enumerate() {
            let expected = expected(world, *len, call);
            for sum in &sums {
                assert!(sum[call] == expected, "world {world} length {len}");
            }
        }
    }
}

#[test]
fn a_listener_serves_epoch_after_epoch() {
    let (listeners, members) = listeners(2);
    thread::scope(|scope| {
        for (rank, listener) in listeners.iter().enumerate() {
            let members = &members;
            scope.spawn(move || {
                for epoch in 0..5 {
                    let mut ring =
                        Ring::form(listener, &plan(members, rank, epoch), &Cancel::new()).unwrap();
                    let mut buf = [1, 2, 3];
                    ring.all_reduce_sum(&mut buf, &Cancel::new()).unwrap();
                    assert_eq!(buf, [2, 4, 6]);
                }
            });
        }
    });
}

#[test]
fn a_dead_peer_is_named_at_once_and_ends_the_ring() {
    let errors = on_ring(3, |rank, mut ring| {
        let mut buf = vec![1; 1_000_000];
        ring.all_reduce_sum(&mut buf, &Cancel::new()).unwrap();
        if rank == 1 {
            return None;
        }
        let start = Instant::now();
        let error = ring.all_reduce_sum(&mut buf, &Cancel::new()).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        let again = ring.all_reduce_sum(&mut buf, &Cancel::new());
        assert!(matches!(again, Err(CollectiveError::Broken)));
        Some(error)
    });
    let names_rank_1 =
        |error: &CollectiveError| matches!(error, CollectiveError::PeerLost { rank: Rank(1), .. });
    let lost = |error: &CollectiveError| matches!(error, CollectiveError::PeerLost { .. });
    let survivors: Vec<_> = errors.iter().flatten().collect();
    assert_eq!(survivors.len(), 2);
    assert!(survivors.iter().all(|error| lost(error)), "{survivors:?}");
    assert!(
        survivors.iter().any(|error| names_rank_1(error)),
        "{survivors:?}"
    );
}

#[test]
fn a_silent_peer_is_named_after_the_deadline() {
    let (listeners, members) = listeners(2);
    let (finished, wait) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let (silent, silent_plan) = (&listeners[1], plan(&members, 1, 0));
        scope.spawn(move || {
            let ring = Ring::form(silent, &silent_plan, &Cancel::new()).unwrap();
            wait.recv().unwrap_err();
            drop(ring);
        });
        let mut own = plan(&members, 0, 0);
        own.hop_within = Duration::from_millis(50);
        let mut ring = Ring::form(&listeners[0], &own, &Cancel::new()).unwrap();
        let error = ring.all_reduce_sum(&mut [1], &Cancel::new()).unwrap_err();
        assert!(
            matches!(error, CollectiveError::Stalled { rank: Rank(1), .. }),
            "{error}"
        );
        assert!(error.to_string().contains(&members[1].to_string()));
        drop(finished);
    });
}

#[test]
fn cancelling_from_another_thread_ends_the_wait() {
    let (listeners, members) = listeners(2);
    let cancel = Cancel::new();
    let (waiting, started) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let (idle, idle_plan) = (&listeners[1], plan(&members, 1, 0));
        let partner = scope.spawn(move || Ring::form(idle, &idle_plan, &Cancel::new()).unwrap());
        let handle = cancel.clone();
        let (own, own_plan) = (&listeners[0], plan(&members, 0, 0));
        let waiter = scope.spawn(move || {
            let mut ring = Ring::form(own, &own_plan, &handle).unwrap();
            waiting.send(()).unwrap();
            ring.all_reduce_sum(&mut [1], &handle)
        });
        started.recv().unwrap();
        let start = Instant::now();
        cancel.cancel();
        let result = waiter.join().unwrap();
        assert!(matches!(result, Err(CollectiveError::Cancelled)));
        assert!(start.elapsed() < Duration::from_secs(1));
        drop(partner.join().unwrap());
    });
}

#[test]
fn cancelling_ends_the_forming_too() {
    let (listeners, members) = listeners(2);
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let (own, own_plan, handle) = (&listeners[0], plan(&members, 0, 0), &cancel);
        let waiter = scope.spawn(move || Ring::form(own, &own_plan, handle));
        cancel.cancel();
        assert!(matches!(
            waiter.join().unwrap(),
            Err(CollectiveError::Cancelled)
        ));
    });
}

#[test]
fn a_member_that_never_comes_is_named_after_the_deadline() {
    let (listeners, members) = listeners(2);
    let mut own = plan(&members, 0, 0);
    own.form_within = Duration::from_millis(50);
    let error = Ring::form(&listeners[0], &own, &Cancel::new()).unwrap_err();
    assert!(
        matches!(error, CollectiveError::Stalled { rank: Rank(1), .. }),
        "{error}"
    );
}

#[test]
fn a_member_that_is_gone_is_named_at_once() {
    let (mut listeners, members) = listeners(2);
    drop(listeners.pop());
    let error = Ring::form(&listeners[0], &plan(&members, 0, 0), &Cancel::new()).unwrap_err();
    assert!(
        matches!(error, CollectiveError::PeerLost { rank: Rank(1), .. }),
        "{error}"
    );
}

#[test]
fn strangers_do_not_disturb_the_forming() {
    let (listeners, members) = listeners(2);
    // One says nothing, one speaks HTTP, one leaves at once. All are in the queue before the members are.
    let silent = TcpStream::connect(members[0]).unwrap();
    let mut browser = TcpStream::connect(members[0]).unwrap();
    browser.write_all(&[b'G'; 200]).unwrap();
    drop(TcpStream::connect(members[0]).unwrap());
    thread::scope(|scope| {
        for (rank, listener) in listeners.iter().enumerate() {
            let plan = plan(&members, rank, 0);
            scope.spawn(move || {
                let mut ring = Ring::form(listener, &plan, &Cancel::new()).unwrap();
                let mut buf = [21];
                ring.all_reduce_sum(&mut buf, &Cancel::new()).unwrap();
                assert_eq!(buf, [42]);
            });
        }
    });
    drop((silent, browser));
}

#[test]
fn a_peer_of_an_old_epoch_is_refused_and_one_that_is_ahead_waits() {
    let (listeners, members) = listeners(2);
    thread::scope(|scope| {
        let (ahead, ahead_plan) = (&listeners[0], plan(&members, 0, 7));
        let newer = scope.spawn(move || Ring::form(ahead, &ahead_plan, &Cancel::new()).map(|_| ()));
        let error = Ring::form(&listeners[1], &plan(&members, 1, 6), &Cancel::new()).unwrap_err();
        let refusal = Refusal::StaleEpoch(Term(1), Epoch(7));
        assert!(
            matches!(&error, CollectiveError::Refused { rank: Rank(0), refusal: given, .. } if *given == refusal),
            "{error}"
        );
        Ring::form(&listeners[1], &plan(&members, 1, 7), &Cancel::new()).unwrap();
        newer.join().unwrap().unwrap();
    });
}

#[test]
fn members_that_reduce_different_lengths_are_told_so() {
    let errors = on_ring(2, |rank, mut ring| {
        let mut buf = vec![0; 10 + rank];
        ring.all_reduce_sum(&mut buf, &Cancel::new()).unwrap_err()
    });
    let told = |error: &CollectiveError| matches!(error, CollectiveError::OutOfStep { .. });
    assert!(errors.iter().any(told), "{errors:?}");
}

#[test]
fn a_rank_outside_the_members_is_refused() {
    let (listeners, members) = listeners(2);
    let error = Ring::form(&listeners[0], &plan(&members, 2, 0), &Cancel::new()).unwrap_err();
    assert!(matches!(
        error,
        CollectiveError::NotAMember {
            rank: Rank(2),
            world: 2
        }
    ));
}
