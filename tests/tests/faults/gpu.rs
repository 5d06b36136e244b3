//! Workers whose GPU becomes sick, by the words of its driver.

use weft_tests::cluster::{Cluster, Start, Undisturbed, eight_steps};

/// Both compute slowly enough that what is said of a GPU comes in the middle of the job.
const SLOWLY: &str = "leased:delay-150";

#[test]
fn a_worker_whose_gpu_becomes_sick_is_let_go_and_another_goes_on() {
    let mut cluster = Cluster::start(eight_steps(), 2, &Start::plain());
    let sick = cluster.join(&Start::failing(&format!("leased@3:xid-79,{SLOWLY}")));
    cluster.join(&Start::failing(SLOWLY));
    let told = cluster.coordinator().wait_for("GPU sick");
    assert!(told.contains("XID 79") && told.contains("reboot"), "{told}");
    let end = cluster
        .worker(sick)
        .wait_for("dismissed by the coordinator");
    assert!(end.contains("GPU sick: XID 79"), "{end}");
    assert_eq!(cluster.worker(sick).exit_code(), Some(0));
    let said = cluster.comes_to(Undisturbed::eight_steps());
    assert!(!said.contains("member lost"), "it left in peace: {said}");
}

#[test]
fn the_last_worker_saves_before_it_goes_with_its_sick_gpu() {
    let mut cluster = Cluster::start(eight_steps(), 1, &Start::plain());
    cluster.join(&Start::failing(&format!("leased@7:xid-48,{SLOWLY}")));
    cluster.coordinator().wait_for("GPU sick");
    cluster.coordinator().wait_for("checkpoint saved");
    cluster.worker(0).wait_for("dismissed by the coordinator");
    cluster.come(&Start::plain());
    cluster.ends_like(Undisturbed::eight_steps());
}

#[test]
fn a_worker_with_a_sick_gpu_does_not_start_and_says_what_to_do() {
    let mut cluster = Cluster::start(eight_steps(), 1, &Start::plain());
    let sick = cluster.come(&Start::failing("gpu-looked:xid-95"));
    let refused = cluster.worker(sick).wait_for("cannot be relied on");
    for part in ["XID 95", "reset the GPU", "--ignore-gpu-health"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(cluster.worker(sick).exit_code(), Some(23));
    cluster.come(&Start::plain());
    cluster.ends_like(Undisturbed::eight_steps());
}
