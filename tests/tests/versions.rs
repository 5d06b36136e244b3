//! Coordinator and workers of different versions compute different trajectories, so they refuse each other.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::pin::Pin;

use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::v1::workers_client::WorkersClient;
use weft_proto::v1::workers_server::{Workers, WorkersServer};
use weft_proto::v1::{
    Chunk, Command, FetchRange, Hello, Refusal, RefusalReason, RegisterReply, WorkerEvent,
    register_reply,
};
use weft_tests::process::Weft;
use weft_tests::quickstart::Quickstart;

/// A coordinator that takes nobody, as one of another version does.
struct Refusing;

type Commands = Pin<Box<dyn Stream<Item = Result<Command, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

#[tonic::async_trait]
impl Workers for Refusing {
    type AttachStream = Commands;
    type FetchPreparedStream = Chunks;

    async fn register(&self, hello: Request<Hello>) -> Result<Response<RegisterReply>, Status> {
        let version = hello.into_inner().weft_version;
        let refusal = Refusal {
            reason: RefusalReason::WeftVersion.into(),
            message: format!(
                "coordinator runs weft 9.9.9, this worker {version}; install the same version"
            ),
        };
        Ok(Response::new(RegisterReply {
            reply: Some(register_reply::Reply::Refusal(refusal)),
        }))
    }

    async fn attach(
        &self,
        _: Request<Streaming<WorkerEvent>>,
    ) -> Result<Response<Commands>, Status> {
        Err(Status::permission_denied("this coordinator takes nobody"))
    }

    async fn fetch_prepared(&self, _: Request<FetchRange>) -> Result<Response<Chunks>, Status> {
        Err(Status::permission_denied("this coordinator gives nothing"))
    }
}

#[test]
fn a_worker_that_a_coordinator_of_another_version_refuses_says_both_versions() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(WorkersServer::new(Refusing));
    runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let cache = tempfile::tempdir().unwrap();

    let worker = Weft::new(cache.path(), ["worker", "--coordinator", &url]).finish();

    worker.ended_with(21, &["9.9.9", env!("CARGO_PKG_VERSION")]);
}

#[test]
fn a_coordinator_refuses_a_worker_of_another_version_and_says_both() {
    let quickstart = Quickstart::new();
    let mut coordinator = quickstart
        .weft("coordinator")
        .args(["--listen", "127.0.0.1:0", "--output"])
        .args([quickstart.output("out")])
        .start();
    let line = coordinator.wait_for("listening on http://");
    let url = line[line.find("http://").unwrap()..].to_owned();
    let hello = Hello {
        incarnation: "019347a0-0000-7000-8000-000000000001".to_owned(),
        weft_version: "0.0.1".to_owned(),
        protocol_version: weft_common::wire::PROTOCOL_VERSION,
        host: "elsewhere".to_owned(),
        device: "cpu".to_owned(),
        memory_bytes: 0,
        labels: std::collections::HashMap::new(),
        session: 0,
    };

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reply = runtime.block_on(async {
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        WorkersClient::new(channel).register(hello).await.unwrap()
    });

    let Some(register_reply::Reply::Refusal(refusal)) = reply.into_inner().reply else {
        panic!("a worker of another version was taken");
    };
    assert_eq!(refusal.reason(), RefusalReason::WeftVersion);
    for version in ["0.0.1", env!("CARGO_PKG_VERSION")] {
        assert!(refusal.message.contains(version), "{}", refusal.message);
    }
    coordinator.interrupt();
    coordinator.finish().ended_with(30, &[]);
}
