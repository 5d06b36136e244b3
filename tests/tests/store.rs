//! Stores that fail: each kind of failure is sat out where it passes, and told with its remedy where it does not.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use weft_common::id::{Digest, JobId, Term};
use weft_common::storage::FileEntry;
use weft_common::store::{
    Created, Creation, FenceError, Store, StoreFault, StoreLimits, StoreUrl, claim, newest_term,
    still_newest,
};
use weft_tests::disk::SmallDisk;
use weft_tests::s3::{BUCKET, Fault, Rule, S3Server};

/// Short enough for a test, long enough for a busy machine.
fn limits() -> StoreLimits {
    StoreLimits {
        attempt: Duration::from_secs(2),
        retry_within: Duration::from_secs(20),
        longest_pause: Duration::from_millis(500),
        part_bytes: 5 << 20,
        ..StoreLimits::default()
    }
}

/// Gives up soon.
fn impatient() -> StoreLimits {
    StoreLimits {
        attempt: Duration::from_millis(300),
        retry_within: Duration::from_secs(1),
        ..limits()
    }
}

fn store(server: &S3Server, limits: StoreLimits) -> Store {
    let url = format!("s3://{BUCKET}/team/runs").parse().unwrap();
    Store::open_with(&url, limits, &server.environment()).unwrap()
}

fn job() -> JobId {
    "job-1".parse().unwrap()
}

fn entry(bytes: &[u8]) -> FileEntry {
    FileEntry {
        name: "file".to_owned(),
        size: bytes.len() as u64,
        sha256: Digest::of(bytes),
    }
}

#[test]
fn what_is_written_comes_back_is_listed_and_can_be_removed() {
    let server = S3Server::start();
    let store = store(&server, limits());
    assert_eq!(store.get("a/b").unwrap(), None);
    assert_eq!(store.list("a").unwrap(), []);
    store.put("a/b", b"one").unwrap();
    store.put("a/c/d", b"three").unwrap();
    assert_eq!(store.get("a/b").unwrap().unwrap(), b"one");
    let listed = store.list("a").unwrap();
    let listed: Vec<(&str, u64)> = listed.iter().map(|o| (o.name.as_str(), o.size)).collect();
    assert_eq!(listed, [("b", 3), ("c/d", 5)]);
    assert_eq!(store.folders("").unwrap(), ["a"]);
    assert!(server.file("team/runs/a/b").exists());
    store.delete("a/b").unwrap();
    store.delete("a/b").unwrap();
    assert_eq!(store.get("a/b").unwrap(), None);
}

#[test]
fn only_one_of_two_creates_an_object() {
    let server = S3Server::start();
    let store = store(&server, limits());
    assert_eq!(store.creation().unwrap(), Creation::Conditional);
    assert_eq!(store.create("x", b"one").unwrap(), Created::Ours);
    assert_eq!(store.create("x", b"two").unwrap(), Created::Theirs);
    assert_eq!(store.get("x").unwrap().unwrap(), b"one");
}

#[test]
fn a_large_file_goes_in_parts_and_a_part_that_fails_is_sent_again() {
    let server = S3Server::start();
    let store = store(&server, limits());
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..12u32 << 20).map(|i| (i / 7) as u8).collect();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, &bytes).unwrap();
    server.inject(Rule::all(Fault::Status(503)).method(Method::PUT).times(2));
    store.upload("big", &from).unwrap();
    store.download("big", &entry(&bytes), &to).unwrap();
    assert!(fs::read(&to).unwrap() == bytes);
    assert_eq!(server.count(&Method::PUT, "big"), 3 + 2);
}

#[test]
fn errors_that_pass_are_sat_out() {
    for status in [500, 502, 503, 429] {
        let server = S3Server::start();
        let store = store(&server, limits());
        server.inject(Rule::all(Fault::Status(status)).times(3));
        store.put("x", b"one").unwrap();
        assert_eq!(server.count(&Method::PUT, "x"), 4, "{status}");
    }
}

#[test]
fn a_store_that_answers_with_errors_only_is_given_up_in_time_and_named() {
    let server = S3Server::start();
    let store = store(&server, impatient());
    server.inject(Rule::all(Fault::Status(500)));
    let start = Instant::now();
    let error = store.put("job-1/x", b"one").unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!((error.fault, error.doing), (StoreFault::Failing, "write"));
    let text = error.to_string();
    for part in [
        "s3://weft-test/team/runs/job-1/x",
        "answers with errors",
        "tried",
        "500",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    server.heal();
    store.put("job-1/x", b"one").unwrap();
}

#[test]
fn a_store_that_hangs_is_asked_again_and_given_up_in_time() {
    let server = S3Server::start();
    let store = store(&server, impatient());
    server.inject(Rule::all(Fault::Hang).times(1));
    store.put("x", b"one").unwrap();
    server.inject(Rule::all(Fault::Hang));
    let start = Instant::now();
    let error = store.put("x", b"one").unwrap_err();
    assert_eq!(error.fault, StoreFault::Slow);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_slow_store_is_waited_for() {
    let server = S3Server::start();
    let store = store(&server, limits());
    server.inject(Rule::all(Fault::Slow(Duration::from_millis(400))));
    store.put("x", b"one").unwrap();
    assert_eq!(store.get("x").unwrap().unwrap(), b"one");
    assert_eq!(server.count(&Method::PUT, "x"), 1);
}

#[test]
fn a_server_that_is_gone_is_told_as_unreachable() {
    let server = S3Server::start();
    let store = store(&server, impatient());
    drop(server);
    let error = store.put("x", b"one").unwrap_err();
    assert!(
        [StoreFault::Unreachable, StoreFault::Broken].contains(&error.fault),
        "{error}"
    );
}

#[test]
fn bodies_that_break_off_are_cut_or_changed_are_asked_for_again() {
    let bytes = vec![7; 100_000];
    for fault in [Fault::BrokenBody, Fault::ShortBody, Fault::FlippedBit] {
        let server = S3Server::start();
        let store = store(&server, limits());
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file");
        store.put("x", &bytes).unwrap();
        server.inject(Rule::all(fault).method(Method::GET).times(2));
        store.download("x", &entry(&bytes), &to).unwrap();
        assert!(fs::read(&to).unwrap() == bytes, "{fault:?}");
        assert_eq!(server.count(&Method::GET, "x"), 3, "{fault:?}");
    }
}

#[test]
fn an_object_that_is_damaged_for_good_leaves_no_file() {
    let server = S3Server::start();
    let store = store(&server, impatient());
    let folder = tempfile::tempdir().unwrap();
    store.put("x", b"something else").unwrap();
    let to = folder.path().join("file");
    let error = store
        .download("x", &entry(b"what was written"), &to)
        .unwrap_err();
    assert_eq!(error.fault, StoreFault::Damaged);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_store_that_may_only_be_read_is_told_at_once() {
    let server = S3Server::start();
    let store = store(&server, limits());
    server.inject(Rule::all(Fault::Status(403)).method(Method::PUT));
    let error = store.creation().unwrap_err();
    assert_eq!((error.fault, error.attempts), (StoreFault::Denied, 1));
    assert!(error.to_string().contains("bucket's policy"), "{error}");
}

#[test]
fn wrong_credentials_and_a_missing_bucket_are_told_apart() {
    let server = S3Server::start();
    let mut environment = server.environment();
    environment[3].1 = "another secret".to_owned();
    let url: StoreUrl = format!("s3://{BUCKET}").parse().unwrap();
    let store = Store::open_with(&url, impatient(), &environment).unwrap();
    assert_eq!(store.put("x", b"").unwrap_err().fault, StoreFault::Denied);

    // The test's server makes up buckets; others answer like this.
    server.inject(Rule::all(Fault::Status(404)));
    let store = Store::open_with(&url, impatient(), &server.environment()).unwrap();
    let error = store.put("x", b"").unwrap_err();
    assert_eq!(error.fault, StoreFault::Missing, "{error}");
}

#[test]
fn an_endpoint_without_encryption_must_be_allowed() {
    let server = S3Server::start();
    let mut environment = server.environment();
    environment.remove(1);
    let url: StoreUrl = format!("s3://{BUCKET}").parse().unwrap();
    let error = Store::open_with(&url, limits(), &environment).unwrap_err();
    assert_eq!(error.fault, StoreFault::Settings);
    assert!(error.to_string().contains("AWS_ALLOW_HTTP"), "{error}");
}

#[test]
fn a_creation_whose_answer_was_lost_is_known_as_ones_own() {
    let server = S3Server::start();
    let store = store(&server, limits());
    store.creation().unwrap();
    server.inject(
        Rule::all(Fault::LostAnswer(500))
            .method(Method::PUT)
            .times(1),
    );
    assert_eq!(store.create("x", b"mine").unwrap(), Created::Ours);
    server.inject(
        Rule::all(Fault::LostAnswer(500))
            .method(Method::PUT)
            .times(1),
    );
    assert_eq!(store.create("x", b"yours").unwrap(), Created::Theirs);
}

#[test]
fn a_refusal_of_the_condition_for_an_object_that_is_not_there_is_tried_again() {
    let server = S3Server::start();
    let store = store(&server, limits());
    store.creation().unwrap();
    for status in [412, 409] {
        let name = format!("x{status}");
        server.inject(
            Rule::all(Fault::Status(status))
                .method(Method::PUT)
                .times(2),
        );
        assert_eq!(store.create(&name, b"mine").unwrap(), Created::Ours);
    }
}

/// Claims the next term, and the one after that where somebody else was faster.
fn claim_next(store: &Store) -> Term {
    loop {
        let term = newest_term(store, &job())
            .unwrap()
            .unwrap_or_default()
            .next();
        match claim(store, &job(), term) {
            Ok(()) => return term,
            Err(FenceError::Superseded { .. }) => {}
            Err(error @ FenceError::Store(_)) => panic!("{error}"),
        }
    }
}

/// Claims by many at once; gives the terms.
fn claims(server: &S3Server, count: usize) -> Vec<Term> {
    // As many processes would: each has a store of its own.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| claim_next(&store(server, limits()))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn sixteen_coordinators_that_start_at_once_get_sixteen_terms() {
    let server = S3Server::start();
    server.inject(
        Rule::all(Fault::LostAnswer(500))
            .method(Method::PUT)
            .path("terms")
            .times(5),
    );
    let terms = claims(&server, 16);
    let distinct: BTreeSet<Term> = terms.iter().copied().collect();
    assert_eq!(distinct.len(), 16, "{terms:?}");
    let store = store(&server, limits());
    let newest = newest_term(&store, &job()).unwrap().unwrap();
    assert_eq!(Some(&newest), distinct.last());
    still_newest(&store, &job(), newest).unwrap();
    assert!(still_newest(&store, &job(), Term(newest.0 - 1)).is_err());
}

#[test]
fn where_the_store_ignores_conditions_names_alone_keep_coordinators_apart() {
    let server = S3Server::start();
    server.inject(Rule::all(Fault::Unconditional));
    let one = store(&server, limits());
    assert_eq!(one.creation().unwrap(), Creation::Unconditional);
    let terms = claims(&server, 4);
    let distinct: BTreeSet<Term> = terms.iter().copied().collect();
    assert_eq!(distinct.len(), 4, "{terms:?}");
    let later = claim_next(&one);
    assert!(distinct.iter().all(|term| *term < later));
}

#[test]
fn where_the_store_refuses_conditions_it_is_used_without() {
    let server = S3Server::start();
    server.inject(
        Rule::all(Fault::Status(501))
            .method(Method::PUT)
            .path("probe"),
    );
    let store = store(&server, limits());
    assert_eq!(store.creation().unwrap(), Creation::Unconditional);
    assert_eq!(store.create("x", b"one").unwrap(), Created::Ours);
    assert_eq!(store.create("x", b"two").unwrap(), Created::Theirs);
}

fn folder_store(folder: &Path) -> Store {
    Store::open_with(&StoreUrl::Folder(folder.to_owned()), limits(), &[]).unwrap()
}

#[test]
fn a_shared_folder_on_a_full_disk_is_told_as_full_and_keeps_what_was_there() {
    let Some(disk) = SmallDisk::mount(1024) else {
        return;
    };
    let store = folder_store(&disk.path().join("store"));
    store.put("x", b"old").unwrap();
    let error = store.put("x", &vec![1; 2 << 20]).unwrap_err();
    assert_eq!(
        (error.fault, error.attempts),
        (StoreFault::Full, 1),
        "{error}"
    );
    assert_eq!(store.get("x").unwrap().unwrap(), b"old");
}

#[test]
fn a_shared_folder_that_is_read_only_is_told_as_such() {
    let Some(disk) = SmallDisk::mount(1024) else {
        return;
    };
    let store = folder_store(&disk.path().join("store"));
    store.put("x", b"old").unwrap();
    let remounted = std::process::Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(disk.path())
        .status();
    assert!(remounted.unwrap().success());
    let error = store.creation().unwrap_err();
    assert_eq!(
        (error.fault, error.attempts),
        (StoreFault::ReadOnly, 1),
        "{error}"
    );
    assert_eq!(store.get("x").unwrap().unwrap(), b"old");
}
