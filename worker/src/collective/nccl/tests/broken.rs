//! NCCL that fails, hangs, or is called off.

use std::process::Command;
use std::sync::Arc;

use super::super::{Communicator, HUNG_EXIT_CODE, Seat, Watch};
use super::*;

/// Lets the test that finds it do what ends its process.
const CHILD: &str = "WEFT_TEST_ABORT_HANGS";

/// The communicator of a member that is the only one.
fn alone(
    stub: &Stub,
    deadlines: Deadlines,
    cancel: &Cancel,
) -> Result<Communicator, CollectiveError> {
    let nccl = Arc::new(stub.find().unwrap());
    let seat = Seat {
        id: nccl.unique_id().unwrap(),
        rank: 0,
        world: 1,
    };
    let (link, watch) = (stub.link(0), watching(cancel));
    Communicator::form((&nccl, link.stream()), seat, deadlines, &watch)
}

fn watching(cancel: &Cancel) -> Watch<'_> {
    Watch {
        cancel,
        neighbours: None,
    }
}

/// A sum of one number that is the only member's.
fn sum_alone(communicator: &mut Communicator, cancel: &Cancel) -> Result<i64, CollectiveError> {
    let mut number = [7];
    let at = number.as_mut_ptr() as u64;
    // SAFETY: it lives until the wait is over; nothing writes to it after an error, because the stand-in writes only when
    // its stream is asked.
    let sum = unsafe { DeviceSum::new(at, at, 1, Element::I64) };
    communicator.enqueue(&sum, &watching(cancel))?;
    communicator.wait(&watching(cancel))?;
    Ok(number[0])
}

/// What each of two members meets in a sum in which rank 1 does this; both have ended then.
fn meet(stub: &Stub, cancel: &Cancel, deed: impl Fn(&mut dyn GpuSums) + Sync) -> Vec<String> {
    let said = members(&links(stub, 2), PATIENT, |rank, formed| {
        let mut collective = formed.unwrap();
        let own = terms(rank, 100);
        let gpus = collective.on_gpus().unwrap();
        if rank == 1 {
            deed(gpus);
        }
        let failed = sum(gpus, &own, &mut [0; 100], cancel).unwrap_err();
        let again = sum(gpus, &own, &mut [0; 100], &Cancel::new());
        assert!(matches!(again, Err(CollectiveError::Broken)), "{again:?}");
        let again = collective.all_reduce_sum(&mut [0], &Cancel::new());
        assert!(matches!(again, Err(CollectiveError::Broken)), "{again:?}");
        failed.to_string()
    });
    assert_eq!(stub.aborts(), 2, "both aborted");
    said
}

#[test]
fn an_error_in_a_sum_is_told_in_nccls_words_and_ends_the_others_too() {
    let Some(stub) = Stub::new() else { return };
    let said = meet(&stub, &Cancel::new(), |_| {
        stub.misbehave("sum-breaks", Some(1));
    });
    assert!(said[0].contains("lost ring peer rank 1"), "{}", said[0]);
    for part in [
        "remote process exited",
        "the stub was told to",
        "NCCL 2.28.9 of ",
        "libnccl.so.2",
        "NCCL_DEBUG=WARN",
    ] {
        assert!(said[1].contains(part), "{part} is missing in {}", said[1]);
    }
}

#[test]
fn a_sum_that_never_ends_is_called_off() {
    let Some(stub) = Stub::new() else { return };
    let cancel = Cancel::new();
    let said = meet(&stub, &cancel, |_| {
        stub.misbehave("sum-hangs", Some(1));
        cancel.cancel();
    });
    assert!(
        said.iter().any(|said| said.contains("cancelled")),
        "{said:?}"
    );
}

#[test]
fn a_member_that_ends_is_noticed_by_those_who_wait_for_its_part_of_a_sum() {
    let Some(stub) = Stub::new() else { return };
    let suspects = members(&links(&stub, 2), PATIENT, |rank, formed| {
        let mut collective = formed.unwrap();
        if rank == 1 {
            return None;
        }
        let gpus = collective.on_gpus().unwrap();
        let lost = sum(gpus, &[1], &mut [0], &Cancel::new()).unwrap_err();
        lost.suspect()
    });
    assert_eq!(suspects, [Some(Rank(1)), None]);
}

#[test]
fn what_takes_too_long_ends_with_what_to_look_at() {
    let Some(stub) = Stub::new() else { return };
    let cancel = Cancel::new();
    stub.misbehave("init-hangs", None);
    let formed = alone(&stub, IMPATIENT, &cancel).unwrap_err().to_string();
    stub.misbehave("", None);
    let mut communicator = alone(&stub, IMPATIENT, &cancel).unwrap();
    assert_eq!(sum_alone(&mut communicator, &cancel).unwrap(), 7);
    stub.misbehave("sum-hangs", None);
    let summed = sum_alone(&mut communicator, &cancel);
    let summed = summed.unwrap_err().to_string();
    for said in [formed, summed] {
        for part in [
            "300ms",
            "NCCL 2.28.9 of ",
            "NCCL_DEBUG=WARN",
            "NCCL_SOCKET_IFNAME",
            "TCP ports",
        ] {
            assert!(said.contains(part), "{part} is missing in {said}");
        }
    }
}

#[test]
fn forming_is_called_off_and_leaves_nothing() {
    let Some(stub) = Stub::new() else { return };
    stub.misbehave("init-hangs", None);
    let cancel = Cancel::new();
    let formed = thread::scope(|scope| {
        let formed = scope.spawn(|| alone(&stub, PATIENT, &cancel));
        cancel.cancel();
        formed.join().unwrap()
    });
    assert!(matches!(formed, Err(CollectiveError::Cancelled)));
    assert_eq!(stub.aborts(), 1);
}

#[test]
fn a_library_that_keeps_no_last_error_tells_its_status() {
    let Some(stub) = Stub::with(&["-DVERSION=21800", "-DWITHOUT_LAST_ERROR"]) else {
        return;
    };
    stub.misbehave("init-fails", None);
    let failed = alone(&stub, PATIENT, &Cancel::new()).unwrap_err();
    let failed = failed.to_string();
    assert!(failed.contains("unhandled system error"), "{failed}");
    assert!(failed.contains("NCCL 2.18.0"), "{failed}");
}

#[test]
fn an_abort_that_hangs_ends_the_process() {
    let Some(stub) = Stub::new() else { return };
    if std::env::var_os(CHILD).is_some() {
        let deadlines = Deadlines {
            abort: Duration::from_millis(100),
            ..PATIENT
        };
        let communicator = alone(&stub, deadlines, &Cancel::new()).unwrap();
        stub.misbehave("abort-hangs", None);
        drop(communicator);
        unreachable!("the abort hangs");
    }
    let this_test = concat!(module_path!(), "::an_abort_that_hangs_ends_the_process");
    let (_crate, this_test) = this_test.split_once("::").unwrap();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this_test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(HUNG_EXIT_CODE), "{ended:?}");
}
