//! A second coordinator takes a job over while the first one still lives.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use weft_common::id::{Step, Term};
use weft_common::ledger;
use weft_coordinator::{
    Coordinator, CoordinatorConfig, FailReason, JobOutcome, JobSpec, WorkersBefore,
};

use crate::cluster::{Cluster, Run, config, recipe};
use crate::fake_engine::Behaviour;

/// The address at which workers look for the coordinator, whoever that is: as a name or a cluster's service would be.
struct Service {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    _serving: AbortOnDropHandle<()>,
}

impl Service {
    async fn leading_to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, current) = watch::channel(target);
        let serving = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let target = *current.borrow();
                tokio::spawn(async move {
                    let Ok(mut called) = TcpStream::connect(target).await else {
                        return;
                    };
                    // Either end may hang up in whatever way.
                    let _ = copy_bidirectional(&mut caller, &mut called).await;
                });
            }
        });
        Self {
            address,
            target,
            _serving: AbortOnDropHandle::new(serving),
        }
    }
}

/// A second coordinator of the same job: another host with a state folder of its own and the same output folder.
async fn second(first: &Arc<tempfile::TempDir>, spec: &JobSpec) -> (Cluster, Run) {
    let state_dir = first.path().join("second");
    fs::create_dir(&state_dir).unwrap();
    fs::write(state_dir.join("term"), "1\n").unwrap();
    let config = CoordinatorConfig {
        state_dir,
        ..config(first.path())
    };
    let cluster = Cluster {
        dir: first.clone(),
        coordinator: Coordinator::bind(config).await.unwrap(),
        workers: Vec::new(),
    };
    let spec = JobSpec {
        workers_before: WorkersBefore::MayReturn,
        ..spec.clone()
    };
    let run = cluster.submit(spec).await;
    (cluster, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_coordinators_the_older_commits_nothing_and_its_workers_go_on_with_the_newer() {
    let undisturbed = Cluster::start(vec![Behaviour::default()]).await;
    let run = undisturbed.submit(undisturbed.spec(recipe(60, 0))).await;
    let expected = run.finish().await.steps.pop().unwrap().state_digest;
    undisturbed.end().await;

    let mut old = Cluster::start(Vec::new()).await;
    let service = Service::leading_to(old.coordinator.addr).await;
    let slow = Behaviour {
        slot_takes: Duration::from_millis(5),
        ..Behaviour::default()
    };
    for _ in 0..2 {
        old.join_at(format!("http://{}", service.address), slow.clone());
    }
    let spec = old.spec(recipe(60, 0));
    let mut taken_over = None;
    let by_old = old
        .submit(spec.clone())
        .await
        .follow(async |_, step| {
            if step.step == Step(10) {
                let (new, run) = second(&old.dir, &spec).await;
                service.target.send_replace(new.coordinator.addr);
                taken_over = Some((new, run));
            }
        })
        .await;
    let JobOutcome::Failed { reason, .. } = by_old.outcome else {
        panic!("{}", by_old.outcome);
    };
    assert_eq!(reason, FailReason::Superseded { by: Term(2) });

    let (mut new, run) = taken_over.unwrap();
    let by_new = run.finish().await;
    assert!(
        matches!(by_new.outcome, JobOutcome::Succeeded { steps: 60, .. }),
        "{}",
        by_new.outcome
    );
    assert_eq!(by_new.steps.last().unwrap().state_digest, expected);
    let committed = ledger::read(&spec.ledger_dir()).unwrap().records;
    let steps: Vec<Step> = committed.iter().map(|record| record.step).collect();
    assert_eq!(steps, (0..60).map(Step).collect::<Vec<_>>());
    new.workers = std::mem::take(&mut old.workers);
    let exits = new.end().await;
    assert_eq!(exits.len(), 2, "the same two processes worked to the end");
    old.end().await;
}
