//! A stand-in for the Hugging Face hub and the storage behind it, in the test's own process, which fails on demand.
//!
//! The tests in `push.rs` let the `huggingface_hub` package push to it, where there is one, so that it answers as the hub does.

mod answers;
mod state;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use state::State;

/// The only token that may write.
pub const TOKEN: &str = "hf_standInTokenThatMustNotBeSeen";
/// Whose token it is.
pub const USER: &str = "tester";
/// Files of more bytes are large.
pub const LARGE_FROM: u64 = 1000;
/// Bytes of a part; larger files come in parts.
pub const PART: u64 = 64 << 10;

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Bytes of its body.
    pub bytes: usize,
    /// Whether it showed a token.
    pub token: bool,
    /// Whether it came to the storage and not to the hub.
    pub storage: bool,
}

/// Requests that fail.
#[derive(Debug, Clone)]
struct Rule {
    part: String,
    times: u32,
    status: u16,
    lost: bool,
}

/// A running stand-in; it ends when dropped.
#[derive(Debug)]
pub struct HubServer {
    endpoint: String,
    shared: Arc<Mutex<Shared>>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Shared {
    state: State,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
}

impl HubServer {
    /// Starts a hub without repositories on free ports of this machine.
    ///
    /// # Panics
    /// The system gives no port or thread.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("the system gives a thread");
        let bind = || {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
            let listener = listener.expect("loopback has a free port");
            let address = listener
                .local_addr()
                .expect("a bound listener has an address");
            (listener, format!("http://{address}"))
        };
        let ((hub, endpoint), (storage, storage_endpoint)) = (bind(), bind());
        let shared = Arc::new(Mutex::new(Shared {
            state: State::new(&endpoint, &storage_endpoint),
            ..Shared::default()
        }));
        runtime.spawn(serve(hub, shared.clone(), false));
        runtime.spawn(serve(storage, shared.clone(), true));
        Self {
            endpoint,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Answers the next `times` requests whose path contains `part` with `status`, and does nothing.
    pub fn fail(&self, part: &str, status: u16, times: u32) {
        self.rule(part, status, times, false);
    }

    /// Does what the next `times` requests ask whose path contains `part`, but answers with `status`.
    pub fn lose_answer(&self, part: &str, status: u16, times: u32) {
        self.rule(part, status, times, true);
    }

    fn rule(&self, part: &str, status: u16, times: u32, lost: bool) {
        self.lock().rules.push(Rule {
            part: part.to_owned(),
            times,
            status,
            lost,
        });
    }

    /// Lets everything succeed from now on.
    pub fn heal(&self) {
        self.lock().rules.clear();
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.lock().seen.clear();
    }

    /// How many requests of `method` came whose path contains `part`.
    #[must_use]
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let seen = &self.lock().seen;
        seen.iter()
            .filter(|seen| seen.method == method && seen.path.contains(part))
            .count()
    }

    /// Makes a repository.
    pub fn make(&self, repo: &str, private: bool) {
        self.lock().state.make(repo, private);
    }

    /// Whether a repository is private; `None` where it is not there.
    #[must_use]
    pub fn is_private(&self, repo: &str) -> Option<bool> {
        self.lock().state.is_private(repo)
    }

    /// A committed file.
    #[must_use]
    pub fn file(&self, repo: &str, path: &str) -> Option<Vec<u8>> {
        self.lock().state.file(repo, path)
    }

    /// The messages of a repository's commits.
    #[must_use]
    pub fn commits(&self, repo: &str) -> Vec<String> {
        self.lock().state.commits(repo)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>, storage: bool) {
    while let Ok((socket, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, shared.clone(), storage));
            // A connection that breaks is the client's business.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), answer)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
    storage: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(refusal(400));
    };
    let body = body.to_bytes();
    let path = head.uri.path().to_owned();
    let token = head.headers.get(http::header::AUTHORIZATION);
    let token = token.and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.seen.push(Seen {
        method: head.method.clone(),
        path: path.clone(),
        bytes: body.len(),
        token: !token.is_empty(),
        storage,
    });
    let rule = shared
        .rules
        .iter_mut()
        .find(|rule| rule.times > 0 && path.contains(&rule.part));
    let fault = rule.map(|rule| {
        rule.times -= 1;
        (rule.status, rule.lost)
    });
    if let Some((status, false)) = fault {
        return Ok(refusal(status));
    }
    let allowed = token == format!("Bearer {TOKEN}");
    let answered = answers::answer(
        &mut shared.state,
        (&head.method, &path),
        (allowed, storage),
        &body,
    );
    Ok(match fault {
        Some((status, _)) => refusal(status),
        None => answered,
    })
}

fn refusal(status: u16) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from("{\"error\":\"injected\"}"));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}
