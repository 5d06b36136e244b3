//! A worker that dies, or stops and goes on, in each phase.

use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps};

/// Two workers of which the first, which also writes the checkpoints, meets its fate.
fn two_workers(failpoint: &str) -> Cluster {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    let first = cluster.join(&Start::failing(failpoint));
    cluster.join(&Start::plain());
    cluster.worker(first).wait_for("failpoint reached");
    let lost = cluster.coordinator().wait_for("member lost");
    assert!(!lost.contains("h2"), "words of the transport: {lost}");
    cluster
}

/// Another one comes in its place.
fn killed(place: &str) {
    let mut cluster = two_workers(&format!("{place}:kill"));
    cluster.come(&Start::plain());
    cluster.ends_like(Undisturbed::eight_steps());
}

/// It goes on as soon as it counts as lost, and knows nothing of that.
fn stopped(place: &str) {
    let mut cluster = two_workers(&format!("{place}:stop"));
    cluster.worker(0).go_on();
    cluster.ends_like(Undisturbed::eight_steps());
}

macro_rules! phases {
    ($($place:literal: $killed:ident, $stopped:ident;)*) => {$(
        #[test]
        fn $killed() {
            killed($place);
        }

        #[test]
        fn $stopped() {
            stopped($place);
        }
    )*};
}

phases! {
    "leased@3": a_worker_killed_before_it_computes, a_worker_stopped_before_it_computes;
    "computed@3": a_worker_killed_with_a_gradient_untold, a_worker_stopped_with_a_gradient_untold;
    "sealed@2": a_worker_killed_when_all_is_in, a_worker_stopped_when_all_is_in;
    "reducing@2": a_worker_killed_inside_the_all_reduce, a_worker_stopped_inside_the_all_reduce;
    "reduced@2": a_worker_killed_with_the_sum_untold, a_worker_stopped_with_the_sum_untold;
    "committed@2": a_worker_killed_before_it_applies, a_worker_stopped_before_it_applies;
    "applied@2": a_worker_killed_after_it_applied, a_worker_stopped_after_it_applied;
    "snapshot": a_worker_killed_before_it_saves, a_worker_stopped_before_it_saves;
    "manifest": a_worker_killed_before_the_manifest, a_worker_stopped_before_the_manifest;
}
