//! Jobs of a queue, from their submission to their results.

use weft_proto::v1;

use crate::daemon::{Ask, Daemon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_job_shrinks_a_lower_one_between_steps_and_both_end_in_the_bytes_of_a_run() {
    let mut daemon = Daemon::start();
    daemon.join();
    daemon.join();
    let low = Ask::steps("low", 20);
    let high = Ask::steps("high", 6).workers(1).priority(10);

    daemon.submit(&low).await.unwrap();
    let both = |job: &v1::Job| job.members == 2 && job.committed_steps >= 2;
    daemon.wait_for("low", "two members", both).await;
    daemon.submit(&high).await.unwrap();
    let shrunk = |job: &v1::Job| job.members == 1;
    daemon.wait_for("low", "one member", shrunk).await;

    let ended = daemon.succeeds("high").await;
    assert_eq!((ended.committed_steps, ended.total_steps), (6, 6));
    let ended = daemon.succeeds("low").await;
    assert_eq!(ended.incidents, 0, "nobody was lost");
    daemon.left_like_a_run(&low);
    daemon.left_like_a_run(&high);

    let kinds: Vec<String> = daemon
        .events("high")
        .await
        .into_iter()
        .map(|one| one.0)
        .collect();
    for kind in [
        "submitted",
        "admitted",
        "planned",
        "epoch_formed",
        "checkpoint_saved",
    ] {
        assert!(
            kinds.iter().any(|known| known == kind),
            "{kind} is missing in {kinds:?}"
        );
    }
    assert_eq!(kinds.first().map(String::as_str), Some("submitted"));
    assert_eq!(kinds.last().map(String::as_str), Some("ended"));
    let steps: Vec<u64> = daemon
        .steps("low")
        .await
        .iter()
        .map(|step| step.step)
        .collect();
    assert_eq!(steps, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_with_a_job_is_told_when_it_is_handed_in() {
    let daemon = Daemon::start();
    let output = daemon.quickstart.output("wrong");
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("recipe.json"), "{}").unwrap();
    let model = daemon.quickstart.model_copy();
    std::fs::write(model.join("config.json"), "no JSON").unwrap();
    let wrong = Ask::steps("wrong", 6)
        .set(&format!("model.base_model={}", model.display()))
        .workers(99);

    let refused = daemon.submit(&wrong).await.unwrap_err();

    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    for part in ["--workers 99", "wrong", "config.json"] {
        assert!(refused.message().contains(part), "{part}: {refused}");
    }
    let all = v1::ListJobsRequest {
        ended: true,
        last: 0,
    };
    let listed = daemon.client().await.list_jobs(all).await.unwrap();
    assert!(listed.into_inner().jobs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_found_by_id_beginning_and_name_and_two_never_share_an_output_folder() {
    let daemon = Daemon::start();
    let job = daemon.submit(&Ask::steps("mine", 6)).await.unwrap();
    assert_eq!(job.name, "mine");
    assert!(job.submitted_unix_ms > 0 && job.worker_memory_bytes > 0);
    for wanted in [job.id.as_str(), &job.id[..job.id.len() - 4], "mine"] {
        assert_eq!(daemon.job(wanted).await.id, job.id);
    }
    let refused = daemon.submit(&Ask::steps("mine", 6)).await.unwrap_err();
    assert!(refused.message().contains(&job.id), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_cancelled_goes_on_when_it_is_handed_in_again() {
    let mut daemon = Daemon::start();
    daemon.join();
    let ask = Ask::steps("again", 20);
    let first = daemon.submit(&ask).await.unwrap();
    let begun = |job: &v1::Job| job.committed_steps >= 4;
    daemon.wait_for("again", "four steps", begun).await;
    let wanted = v1::JobRef {
        id: "again".to_owned(),
    };
    daemon.client().await.cancel_job(wanted).await.unwrap();
    let events = daemon.events("again").await;
    assert!(events.last().unwrap().1.contains("cancelled"), "{events:?}");
    let refused = daemon.submit(&ask).await.unwrap_err();
    assert!(refused.message().contains("--resume"), "{refused}");

    let resumed = Ask {
        resume_newest: true,
        ..ask.clone()
    };
    let second = daemon.submit(&resumed).await.unwrap();
    assert_eq!(second.id, first.id);
    assert!(second.committed_steps >= 4);
    daemon.succeeds("again").await;
    daemon.left_like_a_run(&ask);
}
