//! What goes wrong costs little, or ends the job cleanly, and says who, where and why.

use std::time::Duration;

use weft_common::id::{Digest, Step};
use weft_common::wire::{ErrorKind, SumHealth, Update};
use weft_coordinator::engine::LossCause;
use weft_coordinator::{FailReason, JobOutcome, OnNonFinite};
use weft_worker::agent::WorkerExit;

use crate::cluster::{Cluster, Finished, recipe};
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

/// The state that an undisturbed worker ends in.
async fn undisturbed(steps: u64) -> Digest {
    let cluster = Cluster::start(vec![Behaviour::default()]).await;
    let run = cluster.submit(cluster.spec(recipe(steps, 0))).await;
    let state = run.finish().await.steps.pop().unwrap().state_digest;
    cluster.end().await;
    state
}

fn succeeded(finished: &Finished, steps: usize, state: Digest) {
    let outcome = &finished.outcome;
    assert!(matches!(outcome, JobOutcome::Succeeded { .. }), "{outcome}");
    let told: Vec<u64> = finished.steps.iter().map(|step| step.step.0).collect();
    let all: Vec<u64> = (0..steps as u64).collect();
    assert_eq!(told, all, "every step once, in order");
    assert_eq!(finished.steps.last().unwrap().state_digest, state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_costs_its_micro_batches_and_is_named() {
    let expected = undisturbed(60).await;
    let mut cluster = Cluster::start(vec![Behaviour::default(); 3]).await;
    let mut spec = cluster.spec(recipe(60, 10));
    let victim = cluster.workers.remove(1);
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
    succeeded(&finished, 60, expected);
    let [incident] = &finished.incidents[..] else {
        panic!("{:?}", finished.incidents);
    };
    assert!(incident.worker.rank.is_some() && incident.step >= Step(25));
    assert_eq!(incident.left, 2);
    let text = incident.to_string();
    for part in [&incident.worker.worker.to_string(), "2 workers go on"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(finished.steps.last().unwrap().world, 2);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_late_copies_the_state_and_takes_part() {
    let expected = undisturbed(300).await;
    let slow = Behaviour {
        slot_takes: Duration::from_millis(2),
        ..Behaviour::default()
    };
    let mut cluster = Cluster::start(vec![slow.clone()]).await;
    let mut spec = cluster.spec(recipe(300, 0));
    spec.workers = 1;
    let run = cluster.submit(spec).await;
    let job = run.job.clone();
    cluster.join(slow);
    let mut worlds = Vec::new();
    let finished = run
        .follow(async |_, step| {
            if step.step == Step(10) {
                job.scale(2).await;
            }
            worlds.push(step.world);
        })
        .await;
    succeeded(&finished, 300, expected);
    assert_eq!((worlds[0], worlds[299]), (1, 2), "{worlds:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_the_one_with_a_corrupt_sum_loses_its_place_and_the_job_nothing() {
    let expected = undisturbed(20).await;
    let odd = Behaviour {
        corrupt_sum_at: Some(7),
        ..Behaviour::default()
    };
    let cluster = Cluster::start(vec![Behaviour::default(), odd]).await;
    let run = cluster.submit(cluster.spec(recipe(20, 5))).await;
    let finished = run.finish().await;
    succeeded(&finished, 20, expected);
    let [incident] = &finished.incidents[..] else {
        panic!("{:?}", finished.incidents);
    };
    assert_eq!(incident.step, Step(7));
    assert!(
        matches!(incident.cause, LossCause::Expelled(_)),
        "{incident}"
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gradient_that_is_not_finite_fails_or_skips_as_the_job_says() {
    let bad = Behaviour {
        non_finite_at: 3..4,
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
async fn workers_that_scale_the_loss_may_skip_32_steps_in_a_row_and_no_more() {
    for (non_finite_at, fails_at) in [(2..34, None), (2..36, Some(34))] {
        let scaling = Behaviour {
            non_finite_at,
            scales_loss: true,
            ..Behaviour::default()
        };
        let cluster = Cluster::start(vec![scaling; 2]).await;
        let spec = cluster.spec(recipe(36, 0));
        let finished = cluster.submit(spec).await.finish().await;
        let skipped = finished.steps.iter().map(|step| step.update);
        let skipped = skipped.filter(|&update| update == Update::Skip).count();
        assert_eq!(skipped, 32);
        match fails_at {
            None => assert!(matches!(finished.outcome, JobOutcome::Succeeded { .. })),
            Some(step) => {
                let (step, health) = (Step(step), SumHealth::NonFinite);
                let reason = FailReason::NonFinite { step, health };
                assert_eq!(failed(&finished.outcome).0, &reason);
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
async fn a_worker_that_is_told_to_stop_leaves_between_two_steps_and_nothing_is_lost() {
    let expected = undisturbed(200).await;
    let cluster = Cluster::start(vec![Behaviour::default(); 2]).await;
    let stop = cluster.workers[0].stop.clone();
    let run = cluster.submit(cluster.spec(recipe(200, 0))).await;
    let finished = run
        .follow(async |_, step| {
            if step.step == Step(5) {
                stop.cancel();
            }
        })
        .await;
    succeeded(&finished, 200, expected);
    assert!(finished.incidents.is_empty(), "{:?}", finished.incidents);
    assert_eq!(finished.steps.last().unwrap().world, 1);
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
