//! States go from worker to worker over loopback.

use std::net::SocketAddr;
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
    async fn start(number: u128, gate: Option<Gate>) -> Self {
        let listener = bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let place = Place {
            worker: WorkerId::from_number(number),
            listen_ip: LOOPBACK,
            peer_port: address.port(),
        };
        let (sender, answers) = mpsc::channel(64);
        let thread = TrainingThread::start(place, factory(gate), sender).unwrap();
        let server = PeerServer::start(listener, thread.state());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_takes_over_the_state_while_its_source_trains_on() {
    let mut source = Worker::start(1, None).await;
    let mut joiner = Worker::start(2, None).await;
    source.train().await;
    source.compute(1, 5);
    source.answer().await;
    let expected = source.describe().await;

    let copied = copy(wanted(source.address)).await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_comes_first_and_says_what_the_state_belongs_to() {
    let mut source = Worker::start(1, None).await;
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
    let header = std::str::from_utf8(&chunks[0].header).unwrap();
    assert_eq!(header, format!("{} 1 1", membership(1, 1)));
    let sizes: Vec<_> = chunks.iter().map(|chunk| chunk.data.len()).collect();
    assert_eq!(sizes, [0, 40], "five numbers, in one piece");
    assert_eq!(chunks[0].total_bytes, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_copied_between_two_orders() {
    let (gate, keeper) = Gate::new();
    let source = Worker::start(1, Some(gate)).await;
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
        copy(wanted(source.address))
    );
    entered.unwrap();
    let copied = copying.unwrap();
    assert_eq!(copied.arrays()[32..], 1_i64.to_le_bytes(), "after step 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_another_job_or_of_none_is_refused() {
    let source = Worker::start(1, None).await;
    let mut foreign = wanted(source.address);
    foreign.membership.job = "job-2".parse().unwrap();
    let error = copy(foreign).await.unwrap_err();
    assert!(
        error.contains("job-2") && error.contains("job-1"),
        "{error}"
    );

    source.order(Order::Unload);
    let error = copy(wanted(source.address)).await.unwrap_err();
    assert!(error.contains("no job is loaded"), "{error}");
}

#[tokio::test]
async fn a_source_that_is_gone_is_named() {
    let listener = bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = copy(wanted(address)).await.unwrap_err();
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

fn header(total_bytes: u64) -> Result<StateChunk, Status> {
    Ok(StateChunk {
        header: b"header".as_slice().into(),
        total_bytes,
        ..StateChunk::default()
    })
}

fn data(bytes: usize) -> Result<StateChunk, Status> {
    Ok(StateChunk {
        data: vec![7; bytes].into(),
        ..StateChunk::default()
    })
}

/// What a copy from such a source comes to.
async fn copied_from(script: Vec<Result<StateChunk, Status>>) -> Result<StateCopy, String> {
    let listener = bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(Service::new(Scripted(script)))
        .serve_with_incoming(TcpIncoming::from(listener));
    let _server = AbortOnDropHandle::new(tokio::spawn(server));
    copy(wanted(address)).await
}

#[tokio::test]
async fn a_source_that_dies_in_the_middle_fails_the_copy() {
    let died = Err(Status::unavailable("the process ended"));
    let error = copied_from(vec![header(200), data(100), died])
        .await
        .unwrap_err();
    assert!(error.contains("the process ended"), "{error}");
}

#[tokio::test]
async fn pieces_become_the_state_and_a_stream_that_ends_too_early_or_too_late_does_not() {
    let whole = copied_from(vec![header(150), data(100), data(50)]).await;
    assert_eq!(whole, Ok(StateCopy::new(b"header".to_vec(), vec![7; 150])));
    let empty = copied_from(vec![header(0)]).await;
    assert_eq!(empty, Ok(StateCopy::new(b"header".to_vec(), Vec::new())));

    let error = copied_from(vec![header(200), data(100)]).await.unwrap_err();
    assert!(error.contains("after 100 of 200 bytes"), "{error}");
    let error = copied_from(vec![]).await.unwrap_err();
    assert!(error.contains("before it began"), "{error}");
    let error = copied_from(vec![header(150), data(100), data(51)])
        .await
        .unwrap_err();
    assert!(error.contains("after the 150 bytes"), "{error}");
}

#[tokio::test]
async fn a_state_beyond_its_bounds_is_refused() {
    let error = copied_from(vec![header(6 << 20)]).await.unwrap_err();
    assert!(
        error.contains("6291456") && error.contains("5242880"),
        "{error}"
    );
    let error = copied_from(vec![data(100)]).await.unwrap_err();
    assert!(error.contains("no header"), "{error}");
}
