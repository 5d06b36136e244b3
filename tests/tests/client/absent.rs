//! Coordinators that are not there, hang, or refuse.

use std::net::TcpListener;
use std::path::Path;

use weft_tests::process::Weft;

use crate::fixture::{RUNNING, printed, weft, world};
use crate::stub::{Stub, World};

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn an_unreachable_coordinator_is_told_with_the_remedy_by_every_command() {
    let url = nobody();
    for arguments in [
        &["jobs"][..],
        &["workers"],
        &["status", "x"],
        &["watch", "x"],
        &["logs", "x"],
        &["scale", "x", "2"],
        &["cancel", "x"],
        &["drain", "x"],
    ] {
        let finished = Weft::new(Path::new("unused"), arguments)
            .args(["--coordinator", &url])
            .finish();
        finished.ended_with(
            13,
            &[
                &format!("no coordinator at {url}"),
                "refused",
                "weft coordinator",
            ],
        );
        assert_eq!(finished.printed, "", "{arguments:?}");
    }
}

#[test]
fn a_coordinator_that_hangs_is_given_up_after_the_timeout() {
    let stub = Stub::start(World {
        hangs: true,
        ..world()
    });
    for arguments in [
        &["jobs"][..],
        &["status", "medical"],
        &["cancel", "medical"],
    ] {
        let finished = weft(&stub, arguments).args(["--timeout", "1"]).finish();
        finished.ended_with(13, &["did not answer within 1 s", "--timeout"]);
    }
}

#[test]
fn something_that_is_no_coordinator_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hangs_up = std::thread::spawn(move || drop(listener.accept()));
    let finished = Weft::new(Path::new("unused"), ["jobs"])
        .args(["--coordinator", &url, "--timeout", "5"])
        .finish();
    finished.ended_with(13, &[&url]);
    hangs_up.join().unwrap();
}

#[test]
fn an_address_that_is_none_is_wrong_usage() {
    let finished = Weft::new(Path::new("unused"), ["jobs", "--coordinator", "https://x"]).finish();
    finished.ended_with(2, &["not encrypted", "http://10.0.0.1:7117"]);
}

#[test]
fn a_job_that_nobody_knows_is_refused_with_where_to_look() {
    let stub = Stub::start(world());
    for command in ["status", "watch", "logs", "cancel"] {
        let finished = weft(&stub, &[command, "nothing"]).finish();
        finished.ended_with(
            21,
            &["no job nothing on the coordinator at", "`weft jobs --all`"],
        );
    }
    weft(&stub, &["drain", "nothing"])
        .finish()
        .ended_with(21, &["no worker nothing", "`weft workers`"]);
}

#[test]
fn an_ambiguous_id_is_refused_with_the_candidates() {
    let stub = Stub::start(world());
    let finished = weft(&stub, &["status", "job-019aa2b4"]).finish();
    finished.ended_with(21, &["may mean any of", RUNNING]);
}

#[test]
fn a_reader_that_goes_away_ends_every_command_quietly() {
    let stub = Stub::start(world());
    for arguments in [
        &["jobs"][..],
        &["jobs", "--json"],
        &["workers"],
        &["status", "medical"],
        &["logs", "medical"],
    ] {
        let finished = weft(&stub, arguments).unread().finish();
        assert_eq!(finished.code, Some(0), "{arguments:?}");
    }
    assert!(
        printed(&stub, &["jobs"]).contains("medical"),
        "the stub still serves"
    );
}
