//! A coordinator that dies and is started again, or stands still, in each phase. Its workers keep what they hold.

use std::thread;
use std::time::Duration;

use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps};

/// Longer than the silence after which it takes a worker for dead, which its own pause must not count towards.
const PAUSE: Duration = Duration::from_secs(2);

fn two_workers(failpoint: &str) -> Cluster {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::failing(failpoint));
    cluster.join(&Start::plain());
    cluster.join(&Start::plain());
    cluster.coordinator().wait_for("failpoint reached");
    cluster
}

fn killed(place: &str) {
    let mut cluster = two_workers(&format!("{place}:kill"));
    cluster.restart();
    let said = cluster.ends_like(Undisturbed::eight_steps());
    assert!(!said.contains("back to a checkpoint"), "{said}");
}

fn paused(place: &str) {
    let mut cluster = two_workers(&format!("{place}:stop"));
    // This is the fault itself.
    thread::sleep(PAUSE);
    cluster.coordinator().go_on();
    let said = cluster.ends_like(Undisturbed::eight_steps());
    assert!(!said.contains("member lost"), "{said}");
}

macro_rules! phases {
    ($($place:literal: $killed:ident, $paused:ident;)*) => {$(
        #[test]
        fn $killed() {
            killed($place);
        }

        #[test]
        fn $paused() {
            paused($place);
        }
    )*};
}

phases! {
    "granting": a_coordinator_killed_before_the_first_grant, a_coordinator_paused_before_the_first_grant;
    "granting@7": a_coordinator_killed_while_it_grants, a_coordinator_paused_while_it_grants;
    "sealing@3": a_coordinator_killed_while_it_seals, a_coordinator_paused_while_it_seals;
    "recording@2": a_coordinator_killed_before_the_record, a_coordinator_paused_before_the_record;
    "recorded@2": a_coordinator_killed_between_record_and_commit, a_coordinator_paused_between_record_and_commit;
    "committing@4": a_coordinator_killed_between_two_commits, a_coordinator_paused_between_two_commits;
    "saving": a_coordinator_killed_while_it_asks_for_a_checkpoint, a_coordinator_paused_while_it_asks_for_a_checkpoint;
}

/// The third worker is a joiner in the place of the second.
#[test]
fn a_coordinator_killed_while_a_joiner_is_sent_to_copy() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::failing("syncing:kill"));
    cluster.join(&Start::plain());
    let second = cluster.join(&Start::plain());
    cluster.coordinator().wait_for("step committed");
    cluster.worker(second).kill();
    cluster.come(&Start::plain());
    cluster.coordinator().wait_for("failpoint reached");
    cluster.restart();
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_second_coordinator_is_refused_while_the_first_only_stands_still() {
    let mut cluster = two_workers("recorded@2:stop");
    let second = cluster.another_coordinator().finish();
    second.ended_with(13, &["in use by another run"]);
    cluster.coordinator().go_on();
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn coordinator_and_all_workers_killed_go_on_from_the_checkpoint() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    let workers = [(); 2].map(|()| cluster.join(&Start::plain()));
    // The step after the first checkpoint.
    cluster.coordinator().wait_for("step committed step=3");
    cluster.bury();
    for worker in workers {
        cluster.worker(worker).kill();
    }
    cluster.restart();
    for _ in workers {
        cluster.come(&Start::plain());
    }
    let said = cluster.ends_like(Undisturbed::eight_steps());
    assert!(said.contains("back to a checkpoint"), "{said}");
}
