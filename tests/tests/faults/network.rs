//! A worker whose cable is pulled, or lets packets through in one direction only.

use std::thread;
use std::time::Duration;

use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps, twenty_steps};
use weft_tests::namespace::{End, Namespace};

/// How long the network is broken: more than twice as long as the silence that tells that a worker is gone.
const CUT: Duration = Duration::from_secs(3);

fn here(namespace: &Namespace) -> Start {
    Start {
        ip: Some(namespace.outer_ip.clone()),
        ..Start::plain()
    }
}

fn behind(namespace: &Namespace) -> Start {
    Start {
        ip: Some(namespace.inner_ip.clone()),
        namespace: Some(namespace.name.clone()),
        ..Start::plain()
    }
}

/// Two workers, the first of them behind the cable; one step is committed.
fn one_behind(namespace: &Namespace) -> Cluster {
    let mut cluster = Cluster::start(twenty_steps(), 2, &here(namespace));
    cluster.join(&behind(namespace));
    cluster.join(&here(namespace));
    cluster.coordinator().wait_for("step committed");
    cluster
}

#[test]
fn a_worker_that_is_cut_off_is_left_out_and_comes_back() {
    let Some(namespace) = Namespace::create("a worker that is cut off") else {
        return;
    };
    let mut cluster = one_behind(&namespace);
    namespace.cut();
    cluster.coordinator().wait_for("member lost");
    cluster.coordinator().wait_for("step committed");
    // This is the fault itself.
    thread::sleep(CUT);
    namespace.mend();
    cluster.coordinator().wait_for("world=2");
    cluster.ends_like(Undisturbed::twenty_steps());
}

#[test]
fn a_worker_that_is_only_not_heard_is_left_out_and_comes_back() {
    let Some(namespace) = Namespace::create("a worker that is not heard") else {
        return;
    };
    let mut cluster = one_behind(&namespace);
    if !namespace.drop_from(End::Inner) {
        return;
    }
    cluster.coordinator().wait_for("member lost");
    thread::sleep(CUT);
    namespace.let_through(End::Inner);
    cluster.coordinator().wait_for("world=2");
    cluster.ends_like(Undisturbed::twenty_steps());
}

#[test]
fn a_worker_that_only_hears_nothing_changes_nothing() {
    let Some(namespace) = Namespace::create("a worker that hears nothing") else {
        return;
    };
    let cluster = one_behind(&namespace);
    if !namespace.drop_from(End::Outer) {
        return;
    }
    thread::sleep(CUT);
    namespace.let_through(End::Outer);
    cluster.ends_like(Undisturbed::twenty_steps());
}

#[test]
fn of_two_workers_that_cannot_reach_each_other_one_is_left_out() {
    let what = "workers that cannot reach each other";
    let (Some(one), Some(other)) = (Namespace::create(what), Namespace::create(what)) else {
        return;
    };
    // To the coordinator and the third worker, and no further.
    other.reach(&one.outer_ip);
    let mut cluster = Cluster::start(twenty_steps(), 3, &here(&one));
    cluster.join(&behind(&one));
    cluster.join(&behind(&other));
    cluster.join(&here(&one));
    cluster.coordinator().wait_for("member lost");
    cluster.ends_like(Undisturbed::twenty_steps());
}

/// The worker stands still for as long as it takes to pull the cable, and finds itself alone in that phase.
fn cut_off_at(place: &str) {
    let Some(namespace) = Namespace::create("a worker cut off in a phase") else {
        return;
    };
    let mut cluster = Cluster::start(eight_steps(), 2, &here(&namespace));
    let first = cluster.join(&Start {
        failpoint: Some(format!("{place}:stop")),
        ..behind(&namespace)
    });
    cluster.join(&here(&namespace));
    cluster.worker(first).wait_for("failpoint reached");
    namespace.cut();
    cluster.worker(first).go_on();
    cluster.coordinator().wait_for("member lost");
    namespace.mend();
    cluster.ends_like(Undisturbed::eight_steps());
}

macro_rules! phases {
    ($($place:literal: $cut_off:ident;)*) => {$(
        #[test]
        fn $cut_off() {
            cut_off_at($place);
        }
    )*};
}

phases! {
    "leased@3": a_worker_cut_off_before_it_computes;
    "computed@3": a_worker_cut_off_with_a_gradient_untold;
    "sealed@2": a_worker_cut_off_when_all_is_in;
    "reducing@2": a_worker_cut_off_inside_the_all_reduce;
    "reduced@2": a_worker_cut_off_with_the_sum_untold;
    "committed@2": a_worker_cut_off_before_it_applies;
    "applied@2": a_worker_cut_off_after_it_applied;
    "manifest": a_worker_cut_off_before_the_manifest;
}

#[test]
fn a_joiner_cut_off_while_it_copies() {
    let Some(namespace) = Namespace::create("a joiner cut off while it copies") else {
        return;
    };
    let mut cluster = Cluster::start(eight_steps(), 2, &here(&namespace));
    cluster.join(&here(&namespace));
    let second = cluster.join(&here(&namespace));
    cluster.coordinator().wait_for("step committed");
    cluster.worker(second).kill();
    let joiner = cluster.come(&Start {
        failpoint: Some("state-half-received:stop".to_owned()),
        ..behind(&namespace)
    });
    cluster.worker(joiner).wait_for("failpoint reached");
    namespace.cut();
    cluster.worker(joiner).go_on();
    cluster.coordinator().wait_for("step committed");
    namespace.mend();
    cluster.ends_like(Undisturbed::eight_steps());
}
