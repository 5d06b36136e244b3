//! What a client is told when there is no answer, as OpenAI's API tells it.

use hyper::StatusCode;
use serde_json::{Value, json};

/// A refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
        }
    }

    fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The request cannot be meant.
    pub(super) fn invalid(param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            param,
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
        }
    }

    /// A prompt that the model cannot see as a whole.
    pub(super) fn too_long(message: impl Into<String>) -> Self {
        Self::invalid(None, message).code("context_length_exceeded")
    }

    /// The body has more bytes than are taken.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the request has more than {limit} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            message,
        )
    }

    /// A body in another format.
    pub(super) fn not_json() -> Self {
        let message = "send JSON, with content-type: application/json";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            message,
        )
    }

    /// No key, or a wrong one.
    pub(super) fn unauthorized() -> Self {
        let message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
            .code("invalid_api_key")
    }

    /// There is nothing at this path.
    pub(super) fn no_route(method: &str, path: &str) -> Self {
        let message = format!(
            "there is no {method} {path}; there are POST /v1/chat/completions, POST /v1/completions, GET /v1/models and \
             GET /healthz"
        );
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// The path is known, not with this method.
    pub(super) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            message,
        )
    }

    /// Another model was asked for.
    pub(super) fn no_model(asked: &str, served: &str) -> Self {
        let message = format!("the model `{asked}` does not exist here; `{served}` does");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message).code("model_not_found")
    }

    /// Too many wait already.
    pub(super) fn queue_full(waiting: usize) -> Self {
        let message = format!("{waiting} requests wait already; try again later");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).code("queue_full")
    }

    /// The server goes.
    pub(super) fn stopping() -> Self {
        let message = "the server is being stopped";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("stopping")
    }

    /// The request took too long.
    pub(super) fn deadline(seconds: u64) -> Self {
        let message = format!("the request took longer than the {seconds} s that one may take");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).code("deadline_exceeded")
    }

    /// The model or its device failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The body of the response.
    pub(super) fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}
