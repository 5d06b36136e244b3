//! Death and standstill while a joiner copies a member's state.

use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps};

/// The second of three workers dies after the first step; the next one to come copies from the first.
fn one_is_missing(first: &Start) -> Cluster {
    let mut cluster = Cluster::start(eight_steps(), 3, &Start::plain());
    cluster.join(first);
    let second = cluster.join(&Start::plain());
    cluster.join(&Start::plain());
    cluster.coordinator().wait_for("step committed");
    cluster.worker(second).kill();
    cluster.coordinator().wait_for("member lost");
    cluster
}

#[test]
fn a_member_killed_while_it_sends_its_state() {
    let mut cluster = one_is_missing(&Start::failing("state-half-sent:kill"));
    cluster.come(&Start::plain());
    cluster.worker(0).wait_for("failpoint reached");
    cluster.come(&Start::plain());
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_member_stopped_while_it_sends_its_state() {
    let mut cluster = one_is_missing(&Start::failing("state-half-sent:stop"));
    cluster.come(&Start::plain());
    cluster.worker(0).wait_for("failpoint reached");
    cluster.coordinator().wait_for("member lost");
    cluster.worker(0).go_on();
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_joiner_killed_while_it_copies() {
    let mut cluster = one_is_missing(&Start::plain());
    let joiner = cluster.come(&Start::failing("state-half-received:kill"));
    cluster.worker(joiner).wait_for("failpoint reached");
    cluster.come(&Start::plain());
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_joiner_stopped_while_it_copies() {
    let mut cluster = one_is_missing(&Start::plain());
    let joiner = cluster.come(&Start::failing("state-half-received:stop"));
    cluster.worker(joiner).wait_for("failpoint reached");
    cluster.coordinator().wait_for("step committed");
    cluster.worker(joiner).go_on();
    cluster.ends_like(Undisturbed::eight_steps());
}
