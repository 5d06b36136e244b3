//! A worker whose training thread hangs while the rest of it lives: it notices that itself, and ends with a code of its own.

use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps};

/// The documented exit code of a worker that hangs.
const HUNG: i32 = 22;

fn hanging(place: &str) -> Start {
    Start {
        hang_after: Some(2),
        ..Start::failing(&format!("{place}:hang"))
    }
}

/// Another one comes in its place once it has ended.
fn ends_itself(cluster: &mut Cluster, worker: usize) {
    let hangs = cluster.worker(worker);
    hangs.wait_for("failpoint reached");
    hangs.await_end();
    let said = hangs.said().join("\n");
    assert_eq!(hangs.exit_code(), Some(HUNG), "{said}");
    assert!(said.contains("its training thread has been at"), "{said}");
    cluster.come(&Start::plain());
}

/// It is a joiner's membership that it comes to hear of.
#[test]
fn a_worker_that_hangs_between_two_steps_ends_itself() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    let first = cluster.join(&hanging("joined@2"));
    let second = cluster.join(&Start::plain());
    cluster.coordinator().wait_for("step committed");
    cluster.worker(second).kill();
    cluster.come(&Start::plain());
    ends_itself(&mut cluster, first);
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_worker_that_hangs_in_a_micro_batch_ends_itself() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    let first = cluster.join(&hanging("leased@4"));
    cluster.join(&Start::plain());
    ends_itself(&mut cluster, first);
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_worker_that_hangs_while_it_settles_ends_itself() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    let first = cluster.join(&hanging("settling"));
    cluster.join(&Start::plain());
    cluster.coordinator().wait_for("step committed");
    cluster.restart();
    ends_itself(&mut cluster, first);
    cluster.ends_like(Undisturbed::eight_steps());
}
