//! Base models on a GPU: the one place here that knows its backend.

use std::path::Path;

use weft_common::id::Digest;

use super::open::{check_rows, load_options, log_loaded};
use crate::agent::{EngineError, ErrorKind, JobSetup};
use crate::cuda::GpuFacts;
use crate::model::Model;
use crate::model::loader::{load_onto, read_spec};
use crate::ops::cuda::Cuda;
use crate::train::Backend;

/// A base model on a GPU, and the bytes that it holds.
pub(super) type PlacedBase = (Model<Cuda>, u64);

/// Opens a GPU, whose compiled kernels are kept in a folder, and loads a job's base model onto it.
pub(super) fn load_base(
    place: (&GpuFacts, &Path),
    setup: &JobSetup,
    largest_slot_tokens: usize,
) -> Result<(PlacedBase, Digest), EngineError> {
    let recipe = &setup.recipe;
    let unreadable = |error| EngineError::new(ErrorKind::Model, error);
    let path = Path::new(&recipe.model.base_model);
    let spec = read_spec(path).map_err(unreadable)?;
    check_rows(&spec, recipe)?;
    let cuda = Cuda::for_job(place, recipe, (&spec, largest_slot_tokens))
        .map_err(|error| EngineError::new(ErrorKind::Memory, error))?;
    if let Some(link) = cuda.gpu_link().filter(|_| setup.joins) {
        link.get_ready();
    }
    let base = load_onto(cuda, path, &load_options(recipe), &|_| ()).map_err(unreadable)?;
    log_loaded(recipe, &spec, &base.report);
    Ok(((base.model, base.report.weight_bytes), base.digest))
}
