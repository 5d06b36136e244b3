//! Between the types of this module and their protobuf messages.

mod command;
mod event;
mod gpu_health;
mod hello;
mod holding;
mod shared;
#[cfg(test)]
mod tests;

pub use hello::{register_reply, registered};

/// A message that lacks a field, or whose field is not of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field is absent.
    #[error("message lacks `{0}`")]
    Missing(&'static str),
    /// A field's value is not of its kind.
    #[error("field `{field}` is invalid: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl WireError {
    fn invalid(field: &'static str, reason: impl ToString) -> Self {
        Self::Invalid {
            field,
            reason: reason.to_string(),
        }
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The field, or an error naming it.
fn required<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(field))
}
