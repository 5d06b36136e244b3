//! Whether a checkpoint holds the model that its configuration describes.

use super::error::LoadError;
use super::names::{Part, TensorRole};
use super::source::WeightSource;
use crate::model::{Projection, Spec};

/// Finds every tensor of the model.
pub(super) fn check_tensors(spec: &Spec, source: &dyn WeightSource) -> Result<(), LoadError> {
    check_layer_count(spec, source)?;
    source.find(TensorRole::Embed, &[spec.vocab, spec.hidden])?;
    for layer in 0..spec.layers {
        check_layer(spec, source, layer)?;
    }
    source.find(TensorRole::FinalNorm, &[spec.hidden])?;
    if !spec.tied_head {
        source.find(TensorRole::Head, &[spec.vocab, spec.hidden])?;
    }
    Ok(())
}

/// A checkpoint with more layers than its configuration names would silently become another model.
pub(super) fn check_layer_count(spec: &Spec, source: &dyn WeightSource) -> Result<(), LoadError> {
    if !source.has(TensorRole::Layer(spec.layers, Part::AttnNorm)) {
        return Ok(());
    }
    let problem = format!(
        "it holds more layers than the {} of its configuration; they belong to different models",
        spec.layers
    );
    Err(LoadError::config(source.path(), problem))
}

fn check_layer(spec: &Spec, source: &dyn WeightSource, layer: usize) -> Result<(), LoadError> {
    for norm in [Part::AttnNorm, Part::MlpNorm] {
        source.find(TensorRole::Layer(layer, norm), &[spec.hidden])?;
    }
    for projection in Projection::ALL {
        let (rows, cols) = spec.shape(projection);
        let weight = TensorRole::Layer(layer, Part::Weight(projection));
        source.find(weight, &[rows, cols])?;
        let bias = TensorRole::Layer(layer, Part::Bias(projection));
        if source.has(bias) {
            source.find(bias, &[rows])?;
        }
    }
    Ok(())
}
