//! A worker that loses its coordinator and finds it, or another one, again.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use weft_common::id::Term;
use weft_common::wire::{Attach, Command, Event, Hello, Lease, Refusal, Welcome, register_reply};
use weft_proto::v1;
use weft_proto::v1::workers_server::{Workers, WorkersServer};

use crate::agent::testing::{LOOPBACK, PATIENCE, factory, form, leased, membership, prepare};
use crate::agent::{EngineFactory, WorkerConfig, WorkerExit, run_worker};

/// A session as the coordinator sees it. Dropped, it ends.
struct Session {
    attach: Attach,
    events: Streaming<v1::WorkerEvent>,
    commands: mpsc::Sender<Result<v1::Command, Status>>,
}

impl Session {
    async fn tell(&self, command: Command) {
        self.commands.send(Ok(command.into())).await.unwrap();
    }

    /// The next event that is no heartbeat.
    async fn hear(&mut self) -> Event {
        loop {
            let event = timeout(PATIENCE, self.events.message()).await.unwrap();
            let event = Event::try_from(event.unwrap().expect("the session is open")).unwrap();
            if !matches!(event, Event::Heartbeat(_)) {
                return event;
            }
        }
    }
}

/// Answers every hello in this way, and hands sessions to the test.
#[derive(Clone)]
struct Scripted {
    answer: Result<Term, Refusal>,
    hellos: mpsc::Sender<Hello>,
    sessions: mpsc::Sender<Session>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Workers for Scripted {
    async fn register(
        &self,
        request: Request<v1::Hello>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let hello = Hello::try_from(request.into_inner()).unwrap();
        // A test that is over hears no more.
        let _ = self.hellos.try_send(hello);
        let welcome = |term| Welcome {
            term,
            heartbeat_every: Duration::from_secs(1),
        };
        Ok(Response::new(register_reply(
            self.answer.clone().map(welcome),
        )))
    }

    type AttachStream = Answers<v1::Command>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerEvent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut events = request.into_inner();
        let first = events.message().await?.unwrap().event.unwrap();
        let v1::worker_event::Event::Attach(attach) = first else {
            return Err(Status::invalid_argument("not an attach"));
        };
        let (commands, stream) = mpsc::channel(16);
        let session = Session {
            attach: Attach::try_from(attach).unwrap(),
            events,
            commands,
        };
        let _ = self.sessions.send(session).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    type FetchPreparedStream = Answers<v1::Chunk>;

    async fn fetch_prepared(
        &self,
        _: Request<v1::FetchRange>,
    ) -> Result<Response<Self::FetchPreparedStream>, Status> {
        Err(Status::not_found("no dataset"))
    }
}

/// A coordinator; its port is free again once it is stopped.
struct Coordinator {
    hellos: mpsc::Receiver<Hello>,
    sessions: mpsc::Receiver<Session>,
    server: AbortOnDropHandle<()>,
}

impl Coordinator {
    async fn start(answer: Result<u64, Refusal>, address: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hello, hellos) = mpsc::channel(1000);
        let (session, sessions) = mpsc::channel(16);
        let service = WorkersServer::new(Scripted {
            answer: answer.map(Term),
            hellos: hello,
            sessions: session,
        });
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(async move { server.await.unwrap() });
        let coordinator = Self {
            hellos,
            sessions,
            server: AbortOnDropHandle::new(task),
        };
        (coordinator, address)
    }

    async fn session(&mut self) -> Session {
        let session = timeout(PATIENCE, self.sessions.recv()).await;
        session.unwrap().expect("the coordinator runs")
    }

    async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

fn anywhere() -> SocketAddr {
    (LOOPBACK, 0).into()
}

struct Worker {
    exit: JoinHandle<WorkerExit>,
    stop: CancellationToken,
}

impl Worker {
    fn start(coordinator: SocketAddr, cache: &Path, factory: EngineFactory) -> Self {
        Self::with_grace(coordinator, cache, factory, PATIENCE)
    }

    fn with_grace(
        coordinator: SocketAddr,
        cache: &Path,
        factory: EngineFactory,
        coordinator_grace: Duration,
    ) -> Self {
        let stop = CancellationToken::new();
        let config = WorkerConfig {
            coordinator: format!("http://{coordinator}"),
            device: "fake".to_owned(),
            memory_bytes: 0,
            labels: std::collections::BTreeMap::new(),
            cache_dir: cache.to_owned(),
            listen_ip: LOOPBACK,
            from_ip: None,
            connect_within: PATIENCE,
            coordinator_grace,
            hang_after: Duration::from_secs(30),
            health: None,
            stop: stop.clone(),
        };
        let exit = tokio::spawn(run_worker(config, factory));
        Self { exit, stop }
    }

    async fn exit(self) -> WorkerExit {
        timeout(PATIENCE, self.exit).await.unwrap().unwrap()
    }
}

/// Loads the job, makes the worker the only member of epoch 1 and has slot 4 computed.
async fn work(session: &mut Session) {
    session
        .tell(Command::Prepare(prepare(membership(1, 0))))
        .await;
    assert!(matches!(session.hear().await, Event::Prepared(_)));
    let mut epoch = form(membership(1, 1), &[(1, 0)], 0);
    Arc::make_mut(&mut epoch.members)[0].worker = session.attach.worker;
    session.tell(Command::FormEpoch(epoch)).await;
    session
        .tell(Command::Lease(Lease {
            round: membership(1, 1).round(weft_common::id::Step(0)),
            step_supervised: 8,
            slots: vec![leased(4, false)],
        }))
        .await;
    assert!(matches!(session.hear().await, Event::SlotDone(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_comes_back_with_what_it_holds_to_the_same_coordinator_and_to_the_next() {
    let cache = tempfile::tempdir().unwrap();
    let (mut coordinator, address) = Coordinator::start(Ok(1), anywhere()).await;
    let worker = Worker::start(address, cache.path(), factory(None));
    let mut session = coordinator.session().await;
    assert_eq!(
        (session.attach.session, &session.attach.holding),
        (0, &None)
    );
    let incarnation = session.attach.worker;
    work(&mut session).await;
    drop(session);

    let again = coordinator.session().await;
    assert_eq!(
        (again.attach.worker, again.attach.session),
        (incarnation, 1)
    );
    let held = again.attach.holding.clone().expect("it holds the job");
    assert_eq!(held.slots.len(), 1);
    assert_eq!(held.membership, membership(1, 1));
    drop(again);
    coordinator.stop().await;

    let (mut next, _) = Coordinator::start(Ok(2), address).await;
    let mut session = next.session().await;
    assert_eq!(session.attach.worker, incarnation);
    assert_eq!(session.attach.term, Term(2));
    assert_eq!(session.attach.holding.as_ref(), Some(&held));
    session
        .tell(Command::Prepare(prepare(membership(2, 0))))
        .await;
    let Event::Prepared(told) = session.hear().await else {
        panic!("it says what it holds");
    };
    assert_eq!(told.membership, membership(2, 0));
    assert_eq!(told.slots, held.slots);
    let reason = "done".to_owned();
    session
        .tell(Command::Shutdown {
            reason: reason.clone(),
        })
        .await;
    assert_eq!(worker.exit().await, WorkerExit::Dismissed { reason });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_of_an_older_term_is_not_attached_to() {
    let cache = tempfile::tempdir().unwrap();
    let (mut coordinator, address) = Coordinator::start(Ok(5), anywhere()).await;
    let worker = Worker::start(address, cache.path(), factory(None));
    drop(coordinator.session().await);
    // It may have come back meanwhile; that session ends with its coordinator.
    coordinator.stop().await;

    let (mut zombie, _) = Coordinator::start(Ok(4), address).await;
    for _ in 0..2 {
        timeout(PATIENCE, zombie.hellos.recv()).await.unwrap();
    }
    assert!(zombie.sessions.try_recv().is_err(), "it only registers");
    zombie.stop().await;
    let (mut next, _) = Coordinator::start(Ok(5), address).await;
    let session = next.session().await;
    assert_eq!(session.attach.term, Term(5));
    worker.stop.cancel();
    drop(session);
    assert_eq!(worker.exit().await, WorkerExit::Left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_shuts_down_is_waited_for_only_by_who_was_attached() {
    let cache = tempfile::tempdir().unwrap();
    let (ending, address) = Coordinator::start(Err(Refusal::ShuttingDown), anywhere()).await;
    let worker = Worker::start(address, cache.path(), factory(None));
    assert!(matches!(worker.exit().await, WorkerExit::Refused { .. }));
    ending.stop().await;

    let (mut coordinator, address) = Coordinator::start(Ok(1), anywhere()).await;
    let worker = Worker::start(address, cache.path(), factory(None));
    drop(coordinator.session().await);
    coordinator.stop().await;
    let (mut ending, _) = Coordinator::start(Err(Refusal::ShuttingDown), address).await;
    for _ in 0..2 {
        timeout(PATIENCE, ending.hellos.recv()).await.unwrap();
    }
    ending.stop().await;
    let (mut next, _) = Coordinator::start(Ok(2), address).await;
    assert_eq!(next.session().await.attach.term, Term(2));
    worker.exit.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_gives_up_when_the_grace_is_over() {
    let cache = tempfile::tempdir().unwrap();
    let (mut coordinator, address) = Coordinator::start(Ok(1), anywhere()).await;
    let grace = Duration::from_millis(300);
    let worker = Worker::with_grace(address, cache.path(), factory(None), grace);
    let session = coordinator.session().await;
    coordinator.stop().await;
    drop(session);
    let exit = worker.exit().await;
    assert!(matches!(exit, WorkerExit::CoordinatorLost { .. }), "{exit}");
}

#[tokio::test]
async fn a_worker_that_looks_for_the_coordinator_in_vain_leaves_when_told_to() {
    let cache = tempfile::tempdir().unwrap();
    let worker = Worker::start(anywhere(), cache.path(), factory(None));
    worker.stop.cancel();
    assert_eq!(worker.exit().await, WorkerExit::Left);
}
