//! An S3 server in the test's own process, which fails on demand.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::process::DEADLINE;

/// The bucket that is there.
pub const BUCKET: &str = "weft-test";

const KEY: &str = "weft-test-key";
const SECRET: &str = "weft-test-secret";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer is an error with this status, and nothing is done.
    Status(u16),
    /// Everything is done, but the answer is an error with this status.
    LostAnswer(u16),
    /// No answer ever comes, and nothing is done.
    Hang,
    /// The answer takes so long.
    Slow(Duration),
    /// The connection breaks half-way through the body.
    BrokenBody,
    /// The body is half as long, and says so.
    ShortBody,
    /// A bit of the body is another.
    FlippedBit,
    /// Conditions are ignored: what is created anew replaces what is there.
    Unconditional,
}

/// Which requests go wrong, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    method: Option<Method>,
    path: String,
    times: u32,
    fault: Fault,
}

impl Rule {
    /// Every request goes wrong.
    #[must_use]
    pub fn all(fault: Fault) -> Self {
        Self {
            method: None,
            path: String::new(),
            times: u32::MAX,
            fault,
        }
    }

    /// Only those of a method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only those whose path contains `part`.
    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path);
        self
    }

    /// Only so often; then requests succeed again.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn applies(&self, method: &Method, path: &str) -> bool {
        let method_fits = self.method.as_ref().is_none_or(|only| only == method);
        self.times > 0 && method_fits && path.contains(&self.path)
    }
}

#[derive(Debug, Default)]
struct Shared {
    rules: Vec<Rule>,
    /// Method and path of every request, in the order of arrival.
    seen: Vec<(Method, String)>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    endpoint: String,
    folder: tempfile::TempDir,
    shared: Arc<Mutex<Shared>>,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Starts a server with an empty bucket on a free port of this machine.
    ///
    /// # Panics
    /// The system gives no folder, port or thread.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("the system gives a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a new folder is empty");
        let files = FileSystem::new(folder.path()).expect("the folder is there");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("the system gives a thread");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let server = Faulty {
            service: builder.build(),
            shared: shared.clone(),
            bucket: folder.path().to_owned(),
            conditional: Arc::default(),
        };
        runtime.spawn(server.serve(listener));
        Self {
            endpoint: format!("http://{address}"),
            folder,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Lets requests go wrong from now on. The first rule that applies decides.
    pub fn inject(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Lets everything succeed from now on.
    pub fn heal(&self) {
        self.lock().rules.clear();
    }

    /// How many requests of `method` came whose path contains `part`.
    #[must_use]
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let seen = &self.lock().seen;
        seen.iter()
            .filter(|(of, path)| of == method && path.contains(part))
            .count()
    }

    /// Waits until a request of `method` has come whose path contains `part`.
    ///
    /// # Panics
    /// The deadline passes first.
    pub fn wait_for(&self, method: &Method, part: &str) {
        let end = Instant::now() + DEADLINE;
        while self.count(method, part) == 0 {
            assert!(Instant::now() < end, "no {method} of `{part}` came");
            std::thread::yield_now();
        }
    }

    /// What a process needs in its environment to use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ];
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// The file behind an object.
    #[must_use]
    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The server with its faults.
#[derive(Clone)]
struct Faulty {
    service: S3Service,
    shared: Arc<Mutex<Shared>>,
    bucket: PathBuf,
    conditional: Arc<tokio::sync::Mutex<()>>,
}

impl Faulty {
    async fn serve(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| server.clone().answer(request));
                // A connection that breaks is what some tests are about.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), answer)
                    .await;
            });
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let fault = self.fault_for(&method, &path);
        match fault {
            Some(Fault::Status(status)) => return Ok(refusal(status)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::Unconditional) if method == Method::PUT => {
                // The object is gone before the condition is looked at.
                let _ = std::fs::remove_file(self.bucket.join(path.trim_start_matches('/')));
            }
            Some(
                Fault::LostAnswer(_)
                | Fault::BrokenBody
                | Fault::ShortBody
                | Fault::FlippedBit
                | Fault::Unconditional,
            )
            | None => {}
        }
        let answer = {
            // `s3s-fs` looks whether an object is there, and writes it, in two steps; S3 does it in one.
            let conditional = request.headers().contains_key(http::header::IF_NONE_MATCH);
            let _one_at_a_time = match conditional {
                true => Some(self.conditional.lock().await),
                false => None,
            };
            self.service.call(request.map(Body::from)).await
        };
        let answer = answer.unwrap_or_else(|_| refusal(500));
        Ok(match fault {
            Some(Fault::LostAnswer(status)) => refusal(status),
            Some(fault) => damaged(answer, fault).await,
            None => answer,
        })
    }

    fn fault_for(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.seen.push((method.clone(), path.to_owned()));
        let rule = shared
            .rules
            .iter_mut()
            .find(|rule| rule.applies(method, path))?;
        rule.times = rule.times.saturating_sub(u32::from(rule.times != u32::MAX));
        Some(rule.fault)
    }
}

fn refusal(status: u16) -> Response<Body> {
    let mut answer = Response::new(Body::from("injected".to_owned()));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

async fn damaged(answer: Response<Body>, fault: Fault) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let collected = body.collect().await;
    let mut bytes = collected
        .map(|body| body.to_bytes().to_vec())
        .unwrap_or_default();
    let half = bytes.len() / 2;
    match fault {
        // Its announced length stays, so that the connection ends before the body does.
        Fault::BrokenBody => bytes.truncate(half),
        Fault::ShortBody => {
            bytes.truncate(half);
            parts
                .headers
                .insert(http::header::CONTENT_LENGTH, half.into());
        }
        Fault::FlippedBit => {
            if let Some(byte) = bytes.get_mut(half) {
                *byte ^= 1;
            }
        }
        Fault::Status(_)
        | Fault::LostAnswer(_)
        | Fault::Hang
        | Fault::Slow(_)
        | Fault::Unconditional => {}
    }
    Response::from_parts(parts, Body::from(bytes))
}
