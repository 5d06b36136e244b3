//! A coordinator that ends, however it ends, takes no job with it.

use weft_proto::v1;

use crate::daemon::{Ask, Daemon};

/// One job that runs, and two that wait, the later one first in order.
async fn three(daemon: &mut Daemon) -> [Ask; 3] {
    daemon.join();
    daemon.join();
    let asks = [
        Ask::steps("first", 14).set("resources.workers.min=2"),
        Ask::steps("second", 5).set("resources.workers.min=2"),
        Ask::steps("third", 5)
            .set("resources.workers.min=2")
            .priority(3),
    ];
    daemon.submit(&asks[0]).await.unwrap();
    let begun = |job: &v1::Job| job.committed_steps >= 4;
    daemon.wait_for("first", "four steps", begun).await;
    for ask in &asks[1..] {
        daemon.submit(ask).await.unwrap();
    }
    asks
}

async fn all_end_like_runs(daemon: &mut Daemon, asks: [Ask; 3]) {
    for ask in &asks {
        daemon.succeeds(ask.name).await;
    }
    for ask in &asks {
        daemon.left_like_a_run(ask);
    }
    let started = |name: &'static str| {
        let daemon = &*daemon;
        async move { daemon.job(name).await.started_unix_ms }
    };
    assert!(
        started("third").await < started("second").await,
        "the order is kept"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_coordinator_that_was_killed_go_on_with_the_next_one_in_the_same_bytes() {
    let mut daemon = Daemon::start();
    let asks = three(&mut daemon).await;
    let before = daemon.job("first").await;
    daemon.bury();
    daemon.restart();
    let after = daemon.job("first").await;
    assert_eq!(after.id, before.id);
    assert_eq!(after.submitted_unix_ms, before.submitted_unix_ms);
    all_end_like_runs(&mut daemon, asks).await;
    let steps: Vec<u64> = daemon
        .steps("first")
        .await
        .iter()
        .map(|step| step.step)
        .collect();
    assert!(steps.is_sorted() && steps.last() == Some(&14), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_whose_records_are_lost_go_on_all_the_same() {
    let mut daemon = Daemon::start();
    let asks = three(&mut daemon).await;
    daemon.end("TERM");
    std::fs::write(daemon.state().join("records.db"), "damaged").unwrap();
    daemon.restart();
    let said = daemon.coordinator().said().join("\n");
    assert!(said.contains("the records are damaged"), "{said}");
    // Where its newest checkpoint is, at least.
    let steps = daemon.job("first").await.committed_steps;
    assert!(steps >= 3, "{steps}");
    all_end_like_runs(&mut daemon, asks).await;
    let events = daemon.events("first").await;
    assert!(
        events.iter().any(|(kind, _)| kind == "records_rebuilt"),
        "{events:?}"
    );
}
