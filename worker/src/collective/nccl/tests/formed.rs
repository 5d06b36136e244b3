//! Members that agree, on NCCL or on the ring.

use super::*;

/// Whether each member got NCCL; all can sum over the ring in any case.
fn got_nccl(links: &[Option<GpuLink>], deadlines: Deadlines) -> Vec<bool> {
    let world = links.len() as i64;
    members(links, deadlines, |_, formed| {
        let mut collective = formed.unwrap();
        let mut ones = [1];
        collective
            .all_reduce_sum(&mut ones, &Cancel::new())
            .unwrap();
        assert_eq!(ones, [world]);
        collective.on_gpus().is_some()
    })
}

#[test]
fn nccl_and_the_ring_give_the_same_bits() {
    let Some(stub) = Stub::new() else { return };
    for world in 2..=4 {
        members(&links(&stub, world), PATIENT, |rank, formed| {
            let mut collective = formed.unwrap();
            let cancel = Cancel::new();
            for len in [1, 5000, 0, 1 << 16] {
                let own = terms(rank, len);
                let mut over_nccl = vec![0; len];
                let gpus = collective.on_gpus().unwrap();
                sum(gpus, &own, &mut over_nccl, &cancel).unwrap();
                assert_eq!(own, terms(rank, len), "own sums stay");
                let mut over_ring = own;
                collective.all_reduce_sum(&mut over_ring, &cancel).unwrap();
                assert!(over_nccl == over_ring, "{len} elements over {world}");
            }
        });
    }
    assert_eq!(stub.aborts(), 2 + 3 + 4, "each was aborted at its end");
}

#[test]
fn sums_that_are_put_in_together_are_waited_for_together() {
    let Some(stub) = Stub::new() else { return };
    members(&links(&stub, 2), PATIENT, |rank, formed| {
        let mut collective = formed.unwrap();
        let cancel = Cancel::new();
        let gpus = collective.on_gpus().unwrap();
        let (mut whole, mut halves) = ([rank as i64, 7], [0.5_f32, rank as f32]);
        let address = |address: *mut u8| address as u64;
        let (at, of_halves) = (
            address(whole.as_mut_ptr().cast()),
            address(halves.as_mut_ptr().cast()),
        );
        // SAFETY: both live until after the wait.
        let sums = unsafe {
            [
                DeviceSum::new(at, at, 2, Element::I64),
                DeviceSum::new(of_halves, of_halves, 2, Element::F32),
            ]
        };
        for sum in &sums {
            gpus.enqueue(sum, &cancel).unwrap();
        }
        gpus.wait(&cancel).unwrap();
        assert_eq!((whole, halves), ([1, 14], [1.0, 1.0]));
    });
}

#[test]
fn members_stay_on_the_ring_where_one_of_them_cannot() {
    let Some(stub) = Stub::new() else { return };
    let Some(other) = Stub::with(&["-DVERSION=22707"]) else {
        return;
    };
    let able = |gpu| Some(stub.link(gpu));
    for links in [
        [None, None, None],
        [able(0), None, able(2)],
        [able(0), able(1), Some(stub.bare_link(2))],
        [able(0), Some(other.link(1)), able(2)],
        [able(0), able(1), able(0)],
    ] {
        assert_eq!(got_nccl(&links, PATIENT), [false; 3]);
    }
    assert_eq!(stub.aborts(), 0, "no communicator was begun");
}

#[test]
fn where_one_member_gets_no_communicator_all_stay_on_the_ring_and_do_not_try_again() {
    for (deed, who, begun) in [
        ("id-fails", 0, 0),
        ("init-fails", 1, 2),
        ("init-breaks", 1, 3),
        ("init-hangs", 1, 3),
    ] {
        let Some(stub) = Stub::new() else { return };
        let links = links(&stub, 3);
        stub.misbehave(deed, Some(who));
        assert_eq!(got_nccl(&links, IMPATIENT), [false; 3], "{deed}");
        assert_eq!(stub.aborts(), begun, "{deed}");
        assert!(links[who as usize].as_ref().unwrap().has_failed(), "{deed}");
        stub.misbehave("", None);
        assert_eq!(got_nccl(&links, PATIENT), [false; 3], "{deed}");
        assert_eq!(stub.aborts(), begun, "{deed}: nothing was tried again");
    }
}

#[test]
fn a_library_that_got_ready_before_forms_like_any_other_and_keeps_what_made_it_ready() {
    let Some(stub) = Stub::new() else { return };
    let links = links(&stub, 2);
    let joiner = links[1].as_ref().unwrap();
    joiner.get_ready();
    assert_eq!(got_nccl(&links, PATIENT), [true, true]);
    drop(links);
    assert_eq!(
        stub.aborts(),
        2,
        "the communicator of one stays to the end of the process"
    );
}
