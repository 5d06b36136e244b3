//! What goes wrong ends the job cleanly, and says who, where and why.

use weft_common::id::Step;
use weft_common::wire::{ErrorKind, SumHealth};
use weft_coordinator::{FailReason, JobOutcome, OnNonFinite};
use weft_worker::agent::WorkerExit;

use crate::cluster::{Cluster, recipe};
use crate::fake_engine::Behaviour;

fn failed(outcome: &JobOutcome) -> (&FailReason, Option<Step>) {
    match outcome {
        JobOutcome::Failed { reason, checkpoint } => {
            (reason, checkpoint.as_ref().map(|at| at.next_step))
        }
        JobOutcome::Succeeded { .. } | JobOutcome::Cancelled { .. } => {
            panic!("the job did not fail: {outcome}")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_ends_the_job_and_is_named() {
    let mut cluster = Cluster::start(vec![Behaviour::default(); 3]).await;
    let victim = cluster.workers.remove(1);
    let mut spec = cluster.spec(recipe(5000, 10));
    spec.workers = 3;
    let run = cluster.submit(spec).await;
    let victim = victim.exit;
    let finished = run
        .follow(async |_, step| {
            if step.step == Step(25) {
                victim.abort();
            }
        })
        .await;
    let (reason, checkpoint) = failed(&finished.outcome);
    let FailReason::WorkerLost { worker, step, .. } = reason else {
        panic!("{reason}");
    };
    assert!(worker.rank.is_some() && *step >= Step(25), "{reason}");
    assert!(checkpoint >= Some(Step(10)));
    let text = finished.outcome.to_string();
    assert!(
        text.contains(&worker.worker.to_string()) && text.contains(&worker.host),
        "{text}"
    );
    let exits = cluster.end().await;
    assert!(
        exits
            .iter()
            .all(|exit| matches!(exit, WorkerExit::Dismissed { .. }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_sum_names_the_odd_worker() {
    let odd = Behaviour {
        corrupt_sum_at: Some(7),
        ..Behaviour::default()
    };
    let cluster = Cluster::start(vec![Behaviour::default(), odd, Behaviour::default()]).await;
    let run = cluster.submit(cluster.spec(recipe(20, 5))).await;
    let finished = run.finish().await;
    let (reason, checkpoint) = failed(&finished.outcome);
    let FailReason::Disagreement { odd, step, .. } = reason else {
        panic!("{reason}");
    };
    assert_eq!((odd.len(), *step, checkpoint), (1, Step(7), Some(Step(5))));
    assert_eq!(finished.steps.len(), 7);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gradient_that_is_not_finite_fails_or_skips_as_the_job_says() {
    let bad = Behaviour {
        non_finite_at: Some(3),
        ..Behaviour::default()
    };
    for policy in [OnNonFinite::Fail, OnNonFinite::Skip] {
        let cluster = Cluster::start(vec![bad.clone(); 2]).await;
        let mut spec = cluster.spec(recipe(6, 0));
        spec.on_non_finite = policy;
        let finished = cluster.submit(spec).await.finish().await;
        match policy {
            OnNonFinite::Fail => {
                let health = SumHealth::NonFinite;
                let step = Step(3);
                assert_eq!(
                    failed(&finished.outcome).0,
                    &FailReason::NonFinite { step, health }
                );
            }
            OnNonFinite::Skip => {
                assert!(matches!(finished.outcome, JobOutcome::Succeeded { .. }));
                assert_eq!(finished.steps.len(), 6);
            }
        }
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_is_saved_and_resumes_to_the_same_state() {
    let undisturbed = Cluster::start(vec![Behaviour::default()]).await;
    let run = undisturbed.submit(undisturbed.spec(recipe(60, 0))).await;
    let expected = run.finish().await.steps.pop().unwrap().state_digest;
    undisturbed.end().await;

    let cluster = Cluster::start(vec![Behaviour::default(); 2]).await;
    let spec = cluster.spec(recipe(60, 0));
    let run = cluster.submit(spec.clone()).await;
    let cancelled = run
        .follow(async |job, step| {
            if step.step == Step(10) {
                job.cancel().await;
            }
        })
        .await;
    let JobOutcome::Cancelled {
        checkpoint: Some(checkpoint),
    } = cancelled.outcome
    else {
        panic!("{}", cancelled.outcome);
    };
    assert!(checkpoint.dir.join("state").exists());
    let dir = cluster.dir.clone();
    cluster.end().await;

    // The same folder, a later term: as a second start of the same command.
    let mut resumed = Cluster::in_dir(dir).await;
    for _ in 0..3 {
        resumed.join(Behaviour::default());
    }
    let mut spec = spec;
    spec.workers = 3;
    spec.resume = Some(checkpoint.clone());
    let finished = resumed.submit(spec).await.finish().await;
    assert_eq!(finished.steps[0].step, checkpoint.next_step);
    assert_eq!(finished.steps.last().unwrap().state_digest, expected);
    resumed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_stop_is_let_go_after_a_checkpoint() {
    let cluster = Cluster::start(vec![Behaviour::default(); 2]).await;
    let stop = cluster.workers[0].stop.clone();
    let run = cluster.submit(cluster.spec(recipe(5000, 0))).await;
    let finished = run
        .follow(async |_, step| {
            if step.step == Step(5) {
                stop.cancel();
            }
        })
        .await;
    let (reason, checkpoint) = failed(&finished.outcome);
    assert!(matches!(reason, FailReason::WorkerLeft { .. }), "{reason}");
    assert_eq!(
        checkpoint,
        finished.steps.last().map(|step| step.step.next())
    );
    let exits = cluster.end().await;
    assert_eq!(exits[0], WorkerExit::Left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_cannot_be_made_ends_the_job_with_its_words() {
    let broken = Behaviour {
        fails_to_load: true,
        ..Behaviour::default()
    };
    let cluster = Cluster::start(vec![Behaviour::default(), broken]).await;
    let run = cluster.submit(cluster.spec(recipe(5, 0))).await;
    let finished = run.finish().await;
    let (reason, _) = failed(&finished.outcome);
    let FailReason::WorkerFailed { kind, message, .. } = reason else {
        panic!("{reason}");
    };
    assert_eq!(*kind, ErrorKind::Model);
    assert_eq!(message, "model.safetensors is cut short");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_checkpoint_that_cannot_be_written_fails_the_job() {
    let full = Behaviour {
        fails_to_save: true,
        ..Behaviour::default()
    };
    let cluster = Cluster::start(vec![full]).await;
    let finished = cluster
        .submit(cluster.spec(recipe(4, 2)))
        .await
        .finish()
        .await;
    let (reason, checkpoint) = failed(&finished.outcome);
    assert!(
        matches!(
            reason,
            FailReason::Checkpoint {
                kind: ErrorKind::Storage,
                ..
            }
        ),
        "{reason}"
    );
    assert_eq!((finished.steps.len(), checkpoint), (4, None));
    cluster.end().await;
}
