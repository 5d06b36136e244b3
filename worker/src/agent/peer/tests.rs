//! States go from worker to worker over loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use weft_common::id::{Step, WorkerId};
use weft_common::wire::{Event, Holding, Update};
use weft_proto::v1::peer_server::{Peer, PeerServer as Service};
use weft_proto::v1::{FetchStateRequest, StateChunk};

use super::*;
use crate::agent::machine::Copy;
use crate::agent::order::{Answer, Loading, Order, StateCopy};
use crate::agent::testing::{
    Gate, LOOPBACK, PATIENCE, factory, form, leased, membership, prepare, round,
};
use crate::agent::thread::{Place, TrainingThread};
use crate::agent::tokens::Tokens;

/// A worker with a loaded job that serves its state.
struct Worker {
    thread: TrainingThread,
    answers: mpsc::Receiver<Answer>,
    address: SocketAddr,
    _server: PeerServer,
}

impl Worker {
    async fn start(number: u128, gate: Option<Gate>, cache: &Path) -> Self {
        let listener = bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let place = Place {
            worker: WorkerId::from_number(number),
            listen_ip: LOOPBACK,
            peer_port: address.port(),
        };
        let (sender, answers) = mpsc::channel(64);
        let thread = TrainingThread::start(place, factory(gate), sender).unwrap();
        let server = PeerServer::start(listener, thread.state(), cache.to_owned());
        let mut worker = Self {
            thread,
            answers,
            address,
            _server: server,
        };
        worker.order(Order::Load(Box::new(Loading {
            prepare: prepare(membership(1, 0)),
            dataset_dir: "/data".into(),
        })));
        worker.prepared().await;
        worker.order(Order::Join(form(membership(1, 1), &[(number, 0)], 0)));
        worker
    }

    fn order(&self, order: Order) {
        assert!(self.thread.order(order, &Tokens::default()));
    }

    fn compute(&self, step: u64, slot: u32) {
        self.order(Order::Compute {
            round: round(1, step),
            step_supervised: 8,
            slot: leased(slot, false),
        });
    }

    async fn answer(&mut self) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.answers.recv()).await;
        answer.unwrap().expect("the thread answers")
    }

    async fn prepared(&mut self) -> Holding {
        match self.answer().await {
            Answer::Done(Event::Prepared(holding)) => holding,
            other => panic!("{other:?}"),
        }
    }

    /// Commits step 0.
    async fn train(&mut self) {
        self.compute(0, 3);
        self.order(Order::Reduce(round(1, 0)));
        self.order(Order::Apply {
            round: round(1, 0),
            update: Update::Apply,
        });
        for _ in 0..3 {
            self.answer().await;
        }
    }

    async fn describe(&mut self) -> Holding {
        self.order(Order::Describe(membership(1, 1)));
        self.prepared().await
    }
}

fn wanted(address: SocketAddr) -> Copy {
    Copy {
        membership: membership(1, 1),
        source: WorkerId::from_number(1),
        address,
        limit_bytes: 5 << 20,
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_takes_over_the_state_and_nothing_is_left_of_the_copy() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = Worker::start(1, None, theirs.path()).await;
    let mut joiner = Worker::start(2, None, ours.path()).await;
    source.train().await;
    source.compute(1, 5);
    source.answer().await;
    let expected = source.describe().await;

    let copied = copy(wanted(source.address), ours.path().to_owned()).await;
    joiner.order(Order::Adopt {
        membership: membership(1, 4),
        copy: copied.unwrap(),
    });
    let adopted = joiner.prepared().await;
    assert_eq!(adopted.engine.state_digest, expected.engine.state_digest);
    assert_eq!(adopted.next_step, Step(1));
    assert_eq!(adopted.membership, membership(1, 4));
    assert_eq!(adopted.slots, [], "what is not committed is not copied");
    assert_eq!(source.describe().await.slots.len(), 1, "it trains on");
    // The order that held the copy is over once a later one is answered.
    joiner.describe().await;
    assert_eq!(entries(ours.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_comes_last_and_says_what_the_state_belongs_to() {
    let cache = tempfile::tempdir().unwrap();
    let mut source = Worker::start(1, None, cache.path()).await;
    source.train().await;
    let address = format!("http://{}", source.address);
    let mut client = weft_proto::v1::peer_client::PeerClient::connect(address)
        .await
        .unwrap();
    let request = FetchStateRequest {
        job: "job-1".into(),
    };
    let chunks = client.fetch_state(request).await.unwrap().into_inner();
    let chunks: Vec<StateChunk> = chunks.map(Result::unwrap).collect().await;
    let names: Vec<_> = chunks.iter().map(|chunk| &chunk.file[..]).collect();
    assert_eq!(names, ["empty", "state", "MANIFEST.json"]);
    let manifest = std::str::from_utf8(&chunks[2].data).unwrap();
    assert_eq!(manifest, format!("{} 1 1", membership(1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_copied_between_two_orders() {
    let cache = tempfile::tempdir().unwrap();
    let (gate, keeper) = Gate::new();
    let source = Worker::start(1, Some(gate), cache.path()).await;
    source.compute(0, 3);
    source.order(Order::Reduce(round(1, 0)));
    source.order(Order::Apply {
        round: round(1, 0),
        update: Update::Apply,
    });
    let (entered, copying) = tokio::join!(
        tokio::task::spawn_blocking(move || {
            keeper.entered.recv().unwrap();
            drop(keeper.open);
        }),
        copy(wanted(source.address), cache.path().to_owned())
    );
    entered.unwrap();
    let copied = copying.unwrap();
    assert!(copied.dir().join("MANIFEST.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_another_job_or_of_none_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let source = Worker::start(1, None, cache.path()).await;
    let mut foreign = wanted(source.address);
    foreign.membership.job = "job-2".parse().unwrap();
    let error = copy(foreign, cache.path().to_owned()).await.unwrap_err();
    assert!(
        error.contains("job-2") && error.contains("job-1"),
        "{error}"
    );

    source.order(Order::Unload);
    let error = copy(wanted(source.address), cache.path().to_owned())
        .await
        .unwrap_err();
    assert!(error.contains("no job is loaded"), "{error}");
    assert_eq!(entries(cache.path()), [""; 0]);
}

#[tokio::test]
async fn a_source_that_is_gone_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let listener = bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = copy(wanted(address), cache.path().to_owned())
        .await
        .unwrap_err();
    assert!(error.contains(&address.to_string()), "{error}");
}

/// A source that sends what a test tells it to.
#[derive(Clone)]
struct Scripted(Vec<Result<StateChunk, Status>>);

#[tonic::async_trait]
impl Peer for Scripted {
    type FetchStateStream = Pin<Box<dyn Stream<Item = Result<StateChunk, Status>> + Send>>;

    async fn fetch_state(
        &self,
        _: Request<FetchStateRequest>,
    ) -> Result<Response<Self::FetchStateStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::iter(
            self.0.clone(),
        ))))
    }
}

fn chunk(file: &str, data: Vec<u8>) -> Result<StateChunk, Status> {
    Ok(StateChunk {
        file: file.to_owned(),
        data: data.into(),
    })
}

/// What a copy from such a source comes to.
async fn copied_from(script: Vec<Result<StateChunk, Status>>) -> Result<StateCopy, String> {
    let cache = tempfile::tempdir().unwrap();
    let listener = bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(Service::new(Scripted(script)))
        .serve_with_incoming(TcpIncoming::from(listener));
    let _server = AbortOnDropHandle::new(tokio::spawn(server));
    let copied = copy(wanted(address), cache.path().to_owned()).await;
    if copied.is_err() {
        assert_eq!(entries(cache.path()), [""; 0], "nothing is left");
    }
    copied
}

#[tokio::test]
async fn a_source_that_dies_in_the_middle_fails_the_copy() {
    let script = vec![
        chunk("state", vec![0; 100]),
        Err(Status::unavailable("the process ended")),
    ];
    let error = copied_from(script).await.unwrap_err();
    assert!(error.contains("the process ended"), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_before_its_manifest_fails_the_copy() {
    let error = copied_from(vec![chunk("state", vec![0; 100])])
        .await
        .unwrap_err();
    assert!(error.contains("before MANIFEST.json"), "{error}");
    let error = copied_from(vec![]).await.unwrap_err();
    assert!(error.contains("after 0 files"), "{error}");
}

#[tokio::test]
async fn names_that_leave_the_folder_are_refused() {
    for name in ["../state", "/etc/state", "a/b", "a\\b", "..", ".", "", ".x"] {
        let error = copied_from(vec![chunk(name, vec![1])]).await.unwrap_err();
        assert!(error.contains("no plain file name"), "{name}: {error}");
    }
}

#[tokio::test]
async fn files_that_come_twice_or_after_the_manifest_are_refused() {
    for names in [["a", "b", "a"], ["a", "MANIFEST.json", "b"]] {
        let script = names.map(|name| chunk(name, vec![1])).to_vec();
        let error = copied_from(script).await.unwrap_err();
        assert!(error.contains("out of order"), "{error}");
    }
}

#[tokio::test]
async fn a_state_beyond_its_bounds_is_refused() {
    let script = (0..6).map(|_| chunk("state", vec![0; 1 << 20])).collect();
    let error = copied_from(script).await.unwrap_err();
    assert!(error.contains("larger than 5242880 bytes"), "{error}");
    let script = (0..70).map(|i| chunk(&format!("f{i}"), vec![0])).collect();
    let error = copied_from(script).await.unwrap_err();
    assert!(error.contains("more than 64 files"), "{error}");
}
