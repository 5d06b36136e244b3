//! Requests to the hub and to the storage behind it: attempts with a deadline each, pauses between them, an end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::{Instant, sleep, timeout};

use super::error::remedy;
use super::wire::Complaint;
use super::{Endpoint, HubError, HubLimits, Token};

/// The longest answer that is read.
const MOST_ANSWER: usize = 16 << 20;
/// What of a complaint is passed on.
const MOST_COMPLAINT: usize = 500;
/// Bytes of a file that are read at a time.
const BLOCK: usize = 256 << 10;
/// The longest pause that the hub may ask for.
const MOST_PAUSE: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Speaks with one hub as one user.
pub(super) struct HubClient {
    http: Client<HttpsConnector<HttpConnector>, Body>,
    endpoint: Endpoint,
    token: Token,
    limits: HubLimits,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// A verb and what it is about, for errors; never an address, which may be signed.
    pub(super) doing: String,
    pub(super) method: Method,
    pub(super) address: String,
    pub(super) content_type: &'static str,
    pub(super) payload: Payload,
}

/// What a request carries.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    /// Bytes.
    Bytes(Bytes),
    /// A stretch of a file.
    File {
        path: PathBuf,
        from: u64,
        bytes: u64,
    },
}

/// An answer that is no error, or one that the caller wants to see.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An attempt that failed and may succeed later.
struct Passing {
    detail: String,
    pause: Option<Duration>,
}

impl Call {
    pub(super) fn get(doing: impl Into<String>, address: String) -> Self {
        Self {
            doing: doing.into(),
            method: Method::GET,
            address,
            content_type: "application/json",
            payload: Payload::Bytes(Bytes::new()),
        }
    }

    /// A POST of one JSON value.
    pub(super) fn post(
        doing: impl Into<String>,
        address: String,
        value: &impl Serialize,
    ) -> Result<Self, HubError> {
        let doing = doing.into();
        let body = serde_json::to_vec(value).map_err(|error| HubError::Answer {
            doing: doing.clone(),
            detail: error.to_string(),
        })?;
        Ok(Self {
            method: Method::POST,
            payload: Payload::Bytes(body.into()),
            ..Self::get(doing, address)
        })
    }
}

impl Payload {
    fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// It as a body. A file that is not there any more will not come back by itself, so this is asked once an attempt.
    async fn body(&self) -> Result<Body, HubError> {
        match self {
            Self::Bytes(bytes) => Ok(Full::new(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync()),
            Self::File { path, from, bytes } => {
                let open = async {
                    let mut file = tokio::fs::File::open(path).await?;
                    file.seek(io::SeekFrom::Start(*from)).await?;
                    Ok(file)
                };
                let file = open.await.map_err(|source| HubError::File {
                    path: path.clone(),
                    source,
                })?;
                Ok(stretch(file, *bytes).boxed_unsync())
            }
        }
    }
}

/// The next `left` bytes of a file.
fn stretch(
    file: tokio::fs::File,
    left: u64,
) -> StreamBody<impl futures::Stream<Item = io::Result<http_body::Frame<Bytes>>>> {
    StreamBody::new(stream::try_unfold(
        (file, left),
        |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let mut block = vec![0; BLOCK.min(usize::try_from(left).unwrap_or(BLOCK))];
            let read = file.read(&mut block).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            block.truncate(read);
            let frame = http_body::Frame::data(Bytes::from(block));
            Ok(Some((frame, (file, left - read as u64))))
        },
    ))
}

impl HubClient {
    pub(super) fn new(
        endpoint: Endpoint,
        token: Token,
        limits: HubLimits,
    ) -> Result<Self, HubError> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(limits.connect));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| HubError::Tls(error.to_string()))?;
        // A hub on this machine may speak plain HTTP, and one that does not sends nobody there.
        let tls = match endpoint.to_string().starts_with("https://") {
            true => tls.https_only(),
            false => tls.https_or_http(),
        };
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(tls.enable_http1().wrap_connector(tcp));
        Ok(Self {
            http,
            endpoint,
            token,
            limits,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn limits(&self) -> &HubLimits {
        &self.limits
    }

    /// What a call answers, as JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, HubError> {
        let answer = self.call(call, &[]).await?;
        serde_json::from_slice(&answer.body).map_err(|error| HubError::Answer {
            doing: call.doing.clone(),
            detail: error.to_string(),
        })
    }

    /// Calls until there is an answer. Errors of the statuses `expected` are answers too.
    pub(super) async fn call(&self, call: &Call, expected: &[u16]) -> Result<Answer, HubError> {
        let start = Instant::now();
        let within = self.limits.attempt_for(call.payload.bytes());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let body = call.payload.body().await?;
            let passing = match timeout(within, self.attempt(call, body)).await {
                Ok(Ok(answer)) => match self.judge(call, answer, expected)? {
                    Ok(answer) => return Ok(answer),
                    Err(passing) => passing,
                },
                Ok(Err(detail)) => Passing {
                    detail,
                    pause: None,
                },
                Err(_) => Passing {
                    detail: format!("no answer within {:.0} s", within.as_secs_f64()),
                    pause: None,
                },
            };
            let pause = self.limits.pause(attempts);
            let pause = passing.pause.map_or(pause, |asked| asked.max(pause));
            if start.elapsed() + pause > self.limits.retry_within {
                return Err(HubError::Unreachable {
                    doing: call.doing.clone(),
                    detail: passing.detail,
                    attempts,
                    seconds: start.elapsed().as_secs_f64(),
                });
            }
            tracing::debug!(
                doing = call.doing,
                attempts,
                detail = passing.detail,
                "the hub is asked again"
            );
            sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call, body: Body) -> Result<Answer, String> {
        let uri: Uri = call
            .address
            .parse()
            .map_err(|_| "its address cannot be read".to_owned())?;
        let mut request = Request::builder()
            .method(call.method.clone())
            .header(USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_LENGTH, call.payload.bytes());
        if !call.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, call.content_type).header(
                http::header::ACCEPT,
                call.content_type.replace("x-ndjson", "json"),
            );
        }
        if self.endpoint.holds(&uri) {
            request = request.header(AUTHORIZATION, self.token.header());
        }
        let request = request
            .uri(uri)
            .body(body)
            .map_err(|_| "its headers cannot be sent".to_owned())?;
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| chain(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// An answer to give back, one to wait after, or one that will not change.
    fn judge(
        &self,
        call: &Call,
        answer: Answer,
        expected: &[u16],
    ) -> Result<Result<Answer, Passing>, HubError> {
        let complaint = complaint(&answer);
        // Two repositories of one user cannot be made at the same time.
        let conflicts = answer.status == 409 && complaint.contains("conflicting operation");
        match answer.status {
            200..=299 => Ok(Ok(answer)),
            408 | 429 | 500 | 502 | 503 | 504 => Ok(Err(passing(&answer, &complaint))),
            409 if conflicts => Ok(Err(passing(&answer, &complaint))),
            status if expected.contains(&status) => Ok(Ok(answer)),
            status => Err(HubError::Refused {
                doing: call.doing.clone(),
                status,
                detail: complaint,
                remedy: remedy(status),
            }),
        }
    }
}

fn passing(answer: &Answer, complaint: &str) -> Passing {
    let asked = answer.headers.get(RETRY_AFTER);
    let seconds = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Passing {
        detail: format!("status {}{complaint}", answer.status),
        pause: seconds.map(|seconds| Duration::from_secs(seconds).min(MOST_PAUSE)),
    }
}

/// What an answer says is wrong, after a colon: JSON's `error`, else the text's beginning; empty for pages and silence.
fn complaint(answer: &Answer) -> String {
    if answer.status < 300 {
        return String::new();
    }
    let text = match serde_json::from_slice::<Complaint>(&answer.body) {
        Ok(complaint) => complaint.error,
        Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let text: String = text.trim().chars().take(MOST_COMPLAINT).collect();
    match text.is_empty() || text.starts_with('<') {
        true => String::new(),
        false => format!(": {text}"),
    }
}

/// An error with what is behind it; none of it names an address.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
