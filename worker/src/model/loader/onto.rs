//! Base models straight to a device, tensor by tensor.

use std::path::Path;
use std::time::Instant;

use weft_common::id::Digest;

use super::assemble::Assembly;
use super::digest::beside_digest;
use super::incoming::Incoming;
use super::inspect::check_layer_count;
use super::report::LoadReport;
use super::{LoadError, LoadOptions, LoadProgressFn, open};
use crate::model::decoder::{DeviceTensors, upload_norm, upload_table};
use crate::model::{DenseMatrix, DeviceLayer, Model, Spec};
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
            place(&ops, spec, assembly)
        })
    })?;
    Ok(PlacedModel {
        model: Model::from_device(ops, spec, tensors),
        digest,
        report: LoadReport::new(path, weight_bytes, started.elapsed())?,
    })
}

/// Every tensor, and the bytes that they hold.
fn place<O: Ops>(
    ops: &O,
    spec: &Spec,
    mut assembly: Assembly<'_>,
) -> Result<(DeviceTensors<O>, u64), LoadError> {
    let mut bytes = 0;
    let embed = assembly.embed()?;
    bytes += embed.bytes();
    let embed = ops.upload_embeddings(embed, spec.tied_head);
    let mut layers = Vec::with_capacity(spec.layers);
    for layer in 0..spec.layers {
        let layer = assembly.layer(layer)?;
        bytes += layer.bytes(Incoming::bytes);
        let layer = layer.try_map(|weight| weight.into_device(ops))?;
        layers.push(DeviceLayer::new(ops, spec, layer));
    }
    let final_norm = assembly.final_norm()?;
    let head = assembly.head()?;
    bytes += 4 * final_norm.len() + head.as_ref().map_or(0, DenseMatrix::bytes);
    let tensors = DeviceTensors {
        embed,
        layers,
        final_norm: upload_norm(ops, spec, final_norm),
        head: head.map(|head| upload_table(ops, head)),
    };
    Ok((tensors, bytes as u64))
}
