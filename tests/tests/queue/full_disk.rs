//! A disk that takes no more keeps nobody from training.

use std::fs;

use weft_proto::v1;
use weft_tests::disk::SmallDisk;
use weft_tests::quickstart::Quickstart;

use crate::daemon::{Ask, Daemon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_on_while_nothing_can_be_recorded_and_are_recorded_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(16 << 10) else {
        return;
    };
    let mut daemon = Daemon::keeping(Quickstart::new(), disk.path().join("state"));
    daemon.join();
    let ask = Ask::steps("first", 20);
    daemon.submit(&ask).await.unwrap();
    let begun = |job: &v1::Job| job.committed_steps >= 4;
    daemon.wait_for("first", "four steps", begun).await;

    let filler = disk.fill();
    daemon.coordinator().wait_for("training goes on");
    let refused = daemon.submit(&Ask::steps("second", 5)).await.unwrap_err();
    assert!(refused.message().contains("full"), "{refused}");
    daemon.succeeds("first").await;

    fs::remove_file(filler).unwrap();
    daemon.coordinator().wait_for("records are written again");
    daemon.submit(&Ask::steps("third", 5)).await.unwrap();
    daemon.succeeds("third").await;
    daemon.left_like_a_run(&ask);
    let steps: Vec<u64> = daemon
        .steps("first")
        .await
        .iter()
        .map(|step| step.step)
        .collect();
    assert_eq!(steps, (1..=20).collect::<Vec<u64>>());
}
