//! Clients that do not behave like a worker.

use std::time::Duration;

use tonic::transport::Channel;
use weft_common::id::{Digest, Epoch, JobId, LeaseId, SlotId, Step, Term, WorkerId};
use weft_common::wire::{
    Command, Event, Heartbeat, Hello, Membership, PROTOCOL_VERSION, Refusal, RejectReason,
    SlotDone, SlotOutcome, WEFT_VERSION, WorkerFacts, registered,
};
use weft_coordinator::{BindError, Coordinator, CoordinatorConfig, JobOutcome};
use weft_proto::v1;
use weft_proto::v1::workers_client::WorkersClient;

use crate::cluster::{Cluster, ROWS, recipe};
use crate::fake_engine::Behaviour;

async fn client(cluster: &Cluster) -> WorkersClient<Channel> {
    WorkersClient::connect(cluster.url()).await.unwrap()
}

fn hello() -> Hello {
    Hello {
        worker: WorkerId::generate(),
        weft_version: WEFT_VERSION.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        session: 0,
        facts: WorkerFacts {
            host: "host".to_owned(),
            device: "none".to_owned(),
            memory_bytes: 0,
            labels: std::collections::BTreeMap::new(),
        },
    }
}

async fn register(client: &mut WorkersClient<Channel>, hello: Hello) -> Result<Term, v1::Refusal> {
    let reply = client.register(v1::Hello::from(hello)).await.unwrap();
    registered(reply.into_inner())
        .unwrap()
        .map(|welcome| welcome.term)
}

#[tokio::test]
async fn a_worker_of_another_version_is_refused_with_both_versions() {
    let cluster = Cluster::start(vec![]).await;
    let mut client = client(&cluster).await;
    let old = Hello {
        weft_version: "0.0.1".to_owned(),
        ..hello()
    };
    let refusal = register(&mut client, old).await.unwrap_err();
    assert_eq!(refusal.reason(), v1::RefusalReason::WeftVersion);
    assert!(refusal.message.contains("0.0.1") && refusal.message.contains(WEFT_VERSION));
    let other = Hello {
        protocol_version: 9,
        ..hello()
    };
    let refusal = register(&mut client, other).await.unwrap_err();
    assert_eq!(refusal.reason(), v1::RefusalReason::ProtocolVersion);
    cluster.end().await;
}

#[tokio::test]
async fn the_same_incarnation_registers_once() {
    let cluster = Cluster::start(vec![]).await;
    let mut client = client(&cluster).await;
    let hello = hello();
    register(&mut client, hello.clone()).await.unwrap();
    let refusal = register(&mut client, hello.clone()).await.unwrap_err();
    let expected = Refusal::Duplicate {
        worker: hello.worker,
        session: 0,
    };
    assert_eq!(refusal.message, expected.to_string());
    cluster.end().await;
}

#[tokio::test]
async fn work_of_a_job_that_nobody_runs_is_refused() {
    let cluster = Cluster::start(vec![]).await;
    let mut client = client(&cluster).await;
    let hello = hello();
    let term = register(&mut client, hello.clone()).await.unwrap();
    let attach = v1::WorkerEvent {
        event: Some(v1::worker_event::Event::Attach(v1::Attach {
            incarnation: hello.worker.to_string(),
            term: term.0,
            session: 0,
            holding: None,
        })),
    };
    let membership = Membership {
        job: JobId::generate(),
        term,
        epoch: Epoch(1),
    };
    let done = Event::SlotDone(SlotDone {
        round: membership.round(Step(3)),
        slot: SlotId(0),
        lease: LeaseId(1),
        outcome: SlotOutcome {
            loss_sum: 1.0,
            supervised: 1,
            tokens: 1,
            digest: Digest::of(b"zombie"),
        },
        elapsed: Duration::from_millis(1),
    });
    // The session stays open until the answer is there.
    let events = futures::stream::iter([attach, done.into()]);
    let events = futures::StreamExt::chain(events, futures::stream::pending());
    let mut commands = client.attach(events).await.unwrap().into_inner();
    let command = commands.message().await.unwrap().unwrap();
    let Ok(Command::Reject(reject)) = Command::try_from(command) else {
        panic!("not a rejection");
    };
    assert_eq!(reject.reason, RejectReason::Job);
    drop(commands);
    cluster.end().await;
}

#[tokio::test]
async fn a_session_without_registration_is_closed() {
    let cluster = Cluster::start(vec![]).await;
    let mut client = client(&cluster).await;
    let attach = v1::WorkerEvent {
        event: Some(v1::worker_event::Event::Attach(v1::Attach {
            incarnation: WorkerId::generate().to_string(),
            term: 1,
            session: 0,
            holding: None,
        })),
    };
    let events = futures::stream::iter([attach]);
    let events = futures::StreamExt::chain(events, futures::stream::pending());
    let mut commands = client.attach(events).await.unwrap().into_inner();
    assert!(commands.message().await.unwrap().is_none());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prepared_dataset_is_served_by_range_and_nothing_else_is() {
    let cluster = Cluster::start(vec![Behaviour::default()]).await;
    let run = cluster.submit(cluster.spec(recipe(2, 0))).await;
    run.finish().await;
    let range = |file: &str, offset| v1::FetchRange {
        digest: Digest::of(ROWS).0.to_vec().into(),
        file: file.to_owned(),
        offset,
        length: 4,
    };
    let mut client = client(&cluster).await;
    let chunks = client.fetch_prepared(range("rows.bin", 5)).await.unwrap();
    let chunk = chunks.into_inner().message().await.unwrap().unwrap();
    assert_eq!((chunk.offset, &chunk.data[..]), (5, &ROWS[5..9]));
    for (file, offset) in [("../state/term", 0), ("rows.bin", 1000)] {
        let refused = client.fetch_prepared(range(file, offset)).await;
        assert!(refused.is_err(), "{file}");
    }
    cluster.end().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let cluster = Cluster::start(vec![]).await;
    let dir = tempfile::tempdir().unwrap();
    let spare = crate::cluster::config(dir.path());
    let taken = CoordinatorConfig {
        listen: cluster.coordinator.addr,
        ..spare
    };
    let error = Coordinator::bind(taken).await.unwrap_err();
    assert!(matches!(error, BindError::Listen { .. }));
    assert!(
        error
            .to_string()
            .contains(&cluster.coordinator.addr.to_string())
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_heartbeats_from_one_session_costs_the_others_nothing() {
    let cluster = Cluster::start(vec![Behaviour::default(); 2]).await;
    let run = cluster.submit(cluster.spec(recipe(200, 0))).await;
    let (mut client, flooder) = (client(&cluster).await, hello());
    let mut flood = None;
    let finished = run
        .follow(async |_, step| {
            if step.step != Step(5) {
                return;
            }
            let term = register(&mut client, flooder.clone()).await.unwrap();
            let attach = v1::WorkerEvent {
                event: Some(v1::worker_event::Event::Attach(v1::Attach {
                    incarnation: flooder.worker.to_string(),
                    term: term.0,
                    session: 0,
                    holding: None,
                })),
            };
            let beat = v1::WorkerEvent::from(Event::Heartbeat(Heartbeat::default()));
            let beats = futures::StreamExt::chain(
                futures::stream::iter([attach]),
                futures::stream::repeat(beat),
            );
            flood = Some(client.attach(beats).await.unwrap().into_inner());
        })
        .await;
    assert!(
        matches!(finished.outcome, JobOutcome::Succeeded { steps: 200, .. }),
        "{}",
        finished.outcome
    );
    assert!(finished.incidents.is_empty(), "{:?}", finished.incidents);
    drop(flood);
    cluster.end().await;
}
