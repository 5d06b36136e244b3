//! The decoder: its dimensions, its frozen weights, its layer.
//!
//! A model family is a [`Spec`], not a file of layers. [`ModelWeights`] is what a loader fills, in host memory;
//! [`Model`] is the same on a compute backend, which
//! [`loader::load_onto`] fills tensor by tensor. The layer's forward and backward are written by hand, once
//! ([`layer`]), over [`crate::ops::Ops`].

pub mod layer;
pub mod loader;

mod decoder;
mod dense;
mod inference;
mod presets;
mod random;
mod rope;
mod spec;
mod stored;
#[cfg(test)]
pub(crate) mod tests_support;
mod weights;

pub use decoder::{DeviceLayer, DeviceLinear, Model, ModelError};
pub use dense::{DenseMatrix, DenseValues};
pub use inference::{head_logits, hidden_states, logits};
pub use presets::Preset;
pub use random::RandomFormat;
pub use rope::{RopeScaling, RopeSpec};
pub use spec::{Activation, Projection, Spec, SpecError};
pub use stored::StoredMatrix;
pub use weights::{FrozenLinear, LayerWeights, LinearWeights, ModelWeights};
