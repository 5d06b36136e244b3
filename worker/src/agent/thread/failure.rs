//! Why an order failed.

use std::any::Any;

use weft_common::id::WorkerId;

use crate::agent::{EngineError, ErrorKind};
use crate::collective::CollectiveError;

/// An order that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: EngineError,
    /// The peer that is probably gone, where that is why.
    pub(super) suspect: Option<WorkerId>,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            error,
            suspect: None,
        }
    }
}

impl From<CollectiveError> for Failure {
    fn from(error: CollectiveError) -> Self {
        EngineError::from(error).into()
    }
}

/// A call that the protocol does not allow, or a worker at its end.
pub(super) fn internal(message: String) -> EngineError {
    EngineError {
        kind: ErrorKind::Internal,
        message,
    }
}

/// What a panic said.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    internal(format!(
        "the engine panicked: {}",
        text.unwrap_or("no message")
    ))
}
