//! Members find each other when they have something to sum.

use weft_common::id::Digest;
use weft_common::wire::ErrorKind;

use super::*;

fn members(subjects: &[&Subject]) -> Vec<(u128, u16)> {
    let of = |subject: &&Subject| (subject.number, subject.loaded.ring_port);
    subjects.iter().map(of).collect()
}

/// Worker `n` has computed slot `n`.
fn loaded_with_a_slot(numbers: std::ops::Range<u128>) -> Vec<Subject> {
    numbers
        .map(|number| {
            let mut subject = Subject::start(number, None);
            subject.compute(u32::try_from(number).unwrap(), false);
            subject.slot_done();
            subject
        })
        .collect()
}

fn digests(subjects: &mut [&mut Subject]) -> Vec<Digest> {
    let digest = |subject: &mut &mut Subject| subject.reduced().digest;
    subjects.iter_mut().map(digest).collect()
}

#[test]
fn a_ring_that_a_new_epoch_cancels_forms_again_with_other_members() {
    let [mut a, mut b, mut c]: [Subject; 3] =
        loaded_with_a_slot(1..4).try_into().ok().expect("three");
    // Three are members, but the third never comes.
    let all = members(&[&a, &b, &c]);
    for subject in [&mut a, &mut b] {
        subject.order(Order::Join(form(membership(1, 1), &all, 0)));
        subject.order(Order::Reduce(round(1, 0)));
    }
    // The survivors go on as two, in another order, then as three again.
    let two = members(&[&b, &a]);
    for subject in [&mut a, &mut b] {
        subject.tokens.cancel(Scope::Reduce);
        subject.order(Order::Join(form(membership(1, 2), &two, 0)));
        subject.order(Order::Reduce(round(2, 0)));
    }
    assert_eq!(digests(&mut [&mut a, &mut b]), [sum_of(0, &[1, 2]); 2]);
    for subject in [&mut c, &mut b, &mut a] {
        subject.order(Order::Join(form(membership(1, 3), &all, 0)));
        subject.order(Order::Reduce(round(3, 0)));
    }
    let sums = digests(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(sums, [sum_of(0, &[1, 2, 3]); 3]);
    for subject in [&mut a, &mut b, &mut c] {
        subject.order(apply(3, 0));
    }
    let applied = |subject: &mut Subject| match subject.answer() {
        Answer::Done(Event::Applied(applied)) => applied.state_digest,
        other => panic!("{other:?}"),
    };
    assert_eq!(applied(&mut a), applied(&mut b));
}

#[test]
fn a_ring_is_formed_once_an_epoch() {
    let [mut a, mut b]: [Subject; 2] = loaded_with_a_slot(1..3).try_into().ok().expect("two");
    let two = members(&[&a, &b]);
    for subject in [&mut a, &mut b] {
        subject.order(Order::Join(form(membership(1, 1), &two, 0)));
        subject.order(Order::Reduce(round(1, 0)));
        subject.order(apply(1, 0));
        subject.order(compute(1, 7, false));
        subject.order(Order::Reduce(round(1, 1)));
    }
    for subject in [&mut a, &mut b] {
        assert_eq!(subject.reduced().digest, sum_of(0, &[1, 2]));
        subject.answer();
        subject.slot_done();
        assert_eq!(subject.reduced().digest, sum_of(1, &[7, 7]));
    }
}

#[test]
fn a_member_that_is_gone_is_suspected_and_the_accumulator_stays() {
    let [mut a, b]: [Subject; 2] = loaded_with_a_slot(1..3).try_into().ok().expect("two");
    let two = members(&[&a, &b]);
    let Subject { thread, .. } = b;
    thread.close().join().unwrap();
    a.order(Order::Join(form(membership(1, 1), &two, 0)));
    a.order(Order::Reduce(round(1, 0)));
    let failed = a.failed();
    assert_eq!(failed.kind, ErrorKind::Collective);
    assert_eq!(failed.suspect, Some(WorkerId::from_number(2)));
    assert_eq!(a.held(), (0, vec![1], None));
}

#[test]
fn a_worker_outside_the_epoch_says_so() {
    let mut subject = Subject::start(1, None);
    subject.order(Order::Join(form(membership(1, 1), &[(2, 0)], 0)));
    let failed = subject.failed();
    assert!(failed.message.contains("no member"), "{}", failed.message);
}
