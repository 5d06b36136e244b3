//! Connections, routes, keys and limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use weft_worker::generate::{GenerateError, TextModel};

use super::ask::{self, Ask, Defaults};
use super::desk::{Desk, Event, Work};
use super::error::ApiError;
use super::reply::{Api, Reply, model, models};

/// Most bytes of a request: some hundred thousand tokens.
const MOST_BYTES: usize = 4 << 20;
/// Connections at a time; more wait to be accepted.
const MOST_CONNECTIONS: usize = 256;
/// How long a client may take to send a request's head, and then its body.
const SENDING: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What requests are answered with.
pub(super) struct Service {
    pub(super) model: Arc<TextModel>,
    pub(super) desk: Desk,
    /// Keys that may be shown; everybody may ask where there are none.
    pub(super) keys: Vec<String>,
    pub(super) name: String,
    pub(super) deadline: Duration,
    pub(super) defaults: Defaults,
}

/// Accepts connections until it is dropped; those that were accepted end by themselves.
pub(super) async fn accept(listener: &TcpListener, service: Arc<Service>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let _place = place;
            let answer = service_fn(|request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SENDING)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            if let Err(error) = served {
                debug!(%error, "a connection ended early");
            }
        });
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = match self.route(request, &method, &path).await {
            Ok(response) => response,
            Err(error) => refusal(&error),
        };
        info!(%method, path, status = response.status().as_u16(), "request");
        response
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        method: &Method,
        path: &str,
    ) -> Result<Response<Body>, ApiError> {
        if path == "/healthz" {
            return Ok(json_response(StatusCode::OK, &json!({"status": "ok"})));
        }
        self.check_key(&request)?;
        let get = |body: Value| match *method == Method::GET {
            true => Ok(json_response(StatusCode::OK, &body)),
            false => Err(ApiError::wrong_method(method.as_str(), path)),
        };
        match (path, path.strip_prefix("/v1/models/")) {
            ("/v1/chat/completions", _) => self.complete(request, Api::Chat).await,
            ("/v1/completions", _) => self.complete(request, Api::Text).await,
            ("/v1/models", _) => get(models(&self.name)),
            (_, Some(name)) if name == self.name => get(model(&self.name)),
            (_, Some(name)) => Err(ApiError::no_model(name, &self.name)),
            (_, None) => Err(ApiError::no_route(method.as_str(), path)),
        }
    }

    fn check_key(&self, request: &Request<Incoming>) -> Result<(), ApiError> {
        let shown = request.headers().get(AUTHORIZATION);
        let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let fits = |key: &String| shown.is_some_and(|shown| equal(key.as_bytes(), shown));
        match self.keys.is_empty() || self.keys.iter().any(fits) {
            true => Ok(()),
            false => Err(ApiError::unauthorized()),
        }
    }

    async fn complete(
        &self,
        request: Request<Incoming>,
        api: Api,
    ) -> Result<Response<Body>, ApiError> {
        if request.method() != Method::POST {
            let (method, path) = (request.method().as_str(), request.uri().path());
            return Err(ApiError::wrong_method(method, path));
        }
        let body = read(request).await?;
        let ask = match api {
            Api::Chat => ask::chat(&body, self.defaults)?,
            Api::Text => ask::text(&body, self.defaults)?,
        };
        if let Some(asked) = ask.model.as_ref().filter(|asked| **asked != self.name) {
            return Err(ApiError::no_model(asked, &self.name));
        }
        let reply = Reply::new(api, &self.name, ask.stream && ask.stream_usage);
        let stream = ask.stream;
        let events = self.submit(ask).await?;
        match stream {
            true => Ok(stream_response(reply, events)),
            false => whole_response(&reply, events).await,
        }
    }

    /// Tokens first: what cannot be asked is refused before it waits.
    async fn submit(&self, ask: Ask) -> Result<mpsc::Receiver<Event>, ApiError> {
        let model = self.model.clone();
        let prompt = ask.prompt.clone();
        let encoded = tokio::task::spawn_blocking(move || {
            let tokens = model.encode(&prompt);
            let tokens = tokens.map_err(|error| ApiError::invalid(None, error.to_string()))?;
            let fits = model.check_length(tokens.len());
            fits.map_err(|error| match error {
                GenerateError::PromptTooLong { .. } => ApiError::too_long(error.to_string()),
                other => ApiError::invalid(None, other.to_string()),
            })?;
            Ok(tokens)
        });
        let prompt = encoded
            .await
            .map_err(|error| ApiError::internal(error.to_string()))??;
        self.desk.submit(Work {
            prompt,
            options: ask.options,
            stops: ask.stops,
            time: self.deadline,
        })
    }
}

/// The request's body. A web page cannot send JSON to another origin unasked.
async fn read(request: Request<Incoming>) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(ApiError::not_json());
    }
    let body = Limited::new(request.into_body(), MOST_BYTES).collect();
    match timeout(SENDING, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(MOST_BYTES)),
        Ok(Err(error)) => Err(ApiError::invalid(
            None,
            format!("the request broke off: {error}"),
        )),
        Err(_) => {
            let message = format!("the request was not sent within {} s", SENDING.as_secs());
            Err(ApiError::invalid(None, message))
        }
    }
}

/// As long for every key of the same length.
fn equal(key: &[u8], shown: &[u8]) -> bool {
    let differing = key.iter().zip(shown).fold(0, |all, (a, b)| all | (a ^ b));
    key.len() == shown.len() && differing == 0
}

async fn whole_response(
    reply: &Reply,
    mut events: mpsc::Receiver<Event>,
) -> Result<Response<Body>, ApiError> {
    // The model's thread keeps the deadline.
    while let Some(event) = events.recv().await {
        match event {
            Event::Text(_) => {}
            Event::Done(completion) => {
                return Ok(json_response(StatusCode::OK, &reply.whole(&completion)));
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Err(ApiError::stopping())
}

fn stream_response(reply: Reply, events: mpsc::Receiver<Event>) -> Response<Body> {
    let first = stream::iter(reply.first());
    let told = stream::unfold(Some(events), move |events| {
        let reply = reply.clone();
        async move {
            let mut events = events?;
            match events.recv().await {
                Some(Event::Text(text)) => Some((reply.piece(&text), Some(events))),
                Some(Event::Done(completion)) => Some((reply.last(&completion), None)),
                Some(Event::Failed(error)) => Some((reply.failed(&error), None)),
                None => Some((reply.failed(&ApiError::stopping()), None)),
            }
        }
    });
    let frames = first
        .chain(told)
        .map(|text| Ok(Frame::data(Bytes::from(text))));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn refusal(error: &ApiError) -> Response<Body> {
    let mut response = json_response(error.status, &error.to_json());
    if error.status == StatusCode::TOO_MANY_REQUESTS {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
