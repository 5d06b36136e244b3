//! Whether rows of a length fit the model.

use super::error::LoadError;
use crate::model::Spec;

/// Checks `model.max_seq_length` against the model's context.
///
/// # Errors
/// Rows would be longer than the model was made for.
pub fn check_context(spec: &Spec, max_seq_length: usize) -> Result<(), LoadError> {
    if max_seq_length <= spec.context {
        return Ok(());
    }
    Err(LoadError::Context {
        max_seq_length,
        context: spec.context,
    })
}
