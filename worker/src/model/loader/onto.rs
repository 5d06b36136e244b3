//! Base models straight to a device, tensor by tensor.

use std::path::Path;
use std::time::Instant;

use weft_common::id::Digest;

use super::assemble::Assembly;
use super::digest::beside_digest;
use super::incoming::Incoming;
use super::inspect::check_layer_count;
use super::names::TensorRole;
use super::report::LoadReport;
use super::{LoadError, LoadOptions, LoadProgressFn, WeightFormat, open};
use crate::model::decoder::{DeviceTensors, upload_norm};
use crate::model::{DeviceLayer, FrozenLinear, Model, Spec};
use crate::ops::Ops;

/// A base model on a device.
pub struct PlacedModel<O: Ops> {
    /// The model. What failed on the device shows in its [`Ops::health`].
    pub model: Model<O>,
    /// What [`super::model_digest`] says of the files.
    pub digest: Digest,
    /// What loading took.
    pub report: LoadReport,
}

/// Loads the base model at `path` onto the device of `ops`, which was opened for these dimensions. The peak of host memory
/// is one tensor, that of the device's the finished model and one tensor: floats of 16 bits are quantized there.
///
/// # Errors
/// Those of [`super::load`].
pub fn load_onto<O: Ops>(
    ops: O,
    path: &Path,
    options: &LoadOptions,
    progress: LoadProgressFn<'_>,
) -> Result<PlacedModel<O>, LoadError> {
    let started = Instant::now();
    let ((spec, (tensors, weight_bytes)), digest) = beside_digest(path, options.digest, || {
        open(path, |spec, source| {
            let assembly = Assembly::new(source, spec, options.precision(), progress);
            check_layer_count(spec, source)?;
            place_all(&ops, spec, assembly)
        })
    })?;
    Ok(PlacedModel {
        model: Model::from_device(ops, spec, tensors),
        digest,
        report: LoadReport::new(path, weight_bytes, started.elapsed())?,
    })
}

/// Loads the base model at `path` onto the device of `ops` without digesting its files: for what is not trained.
///
/// # Errors
/// Those of [`super::load`].
pub fn place<O: Ops>(
    ops: O,
    path: &Path,
    format: WeightFormat,
    progress: LoadProgressFn<'_>,
) -> Result<Model<O>, LoadError> {
    let (spec, tensors) = open(path, |spec, source| {
        let assembly = Assembly::new(source, spec, format.precision(), progress);
        check_layer_count(spec, source)?;
        let (tensors, _) = place_all(&ops, spec, assembly)?;
        Ok(tensors)
    })?;
    Ok(Model::from_device(ops, spec, tensors))
}

/// Every tensor, and the bytes that they hold.
fn place_all<O: Ops>(
    ops: &O,
    spec: &Spec,
    mut assembly: Assembly<'_>,
) -> Result<(DeviceTensors<O>, u64), LoadError> {
    let mut bytes = 0;
    let embed = assembly.table(TensorRole::Embed)?;
    bytes += embed.bytes();
    let embed = match embed {
        FrozenLinear::Dense(table) => ops.upload_embeddings(table, spec.tied_head),
        quantized @ (FrozenLinear::Nf4(_) | FrozenLinear::Blocks(_)) => {
            ops.upload_linear(quantized)
        }
    };
    let mut layers = Vec::with_capacity(spec.layers);
    for layer in 0..spec.layers {
        let layer = assembly.layer(layer)?;
        bytes += layer.bytes(Incoming::bytes);
        let layer = layer.try_map(|weight| weight.into_device(ops))?;
        layers.push(DeviceLayer::new(ops, spec, layer));
    }
    let final_norm = assembly.final_norm()?;
    let head = match spec.tied_head {
        true => None,
        false => Some(assembly.table(TensorRole::Head)?),
    };
    bytes += 4 * final_norm.len() + head.as_ref().map_or(0, FrozenLinear::bytes);
    let tensors = DeviceTensors {
        embed,
        layers,
        final_norm: upload_norm(ops, spec, final_norm),
        head: head.map(|head| ops.upload_linear(head)),
    };
    Ok((tensors, bytes as u64))
}
