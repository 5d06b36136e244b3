//! Engines on a GPU: the one place here that knows its backend.

use std::path::Path;

use super::TrainerParts;
use super::open::engine;
use crate::agent::{Engine, EngineError, ErrorKind};
use crate::checkpoint::SharedStore;
use crate::cuda::GpuFacts;
use crate::ops::cuda::Cuda;

/// The engine of a job on a GPU, whose compiled kernels are kept in a folder.
pub(super) fn open_cuda(
    place: (&GpuFacts, &Path),
    parts: TrainerParts,
    shared: Option<SharedStore>,
) -> Result<Box<dyn Engine>, EngineError> {
    let cuda = Cuda::for_job(place, &parts.recipe, &parts.spec)
        .map_err(|error| EngineError::new(ErrorKind::Memory, error))?;
    engine(cuda, parts, shared)
}
