//! Base models from disk: a Hugging Face folder or a GGUF file → [`Spec`] and [`ModelWeights`].
//!
//! ```text
//! path → location (which files) → config | gguf_spec (Spec) → folder | gguf (a source of rows) → assemble → onto
//! ```
//!
//! A source finds tensors by role, checks shape and format, and reads any range of rows as f32. Assembly quantizes
//! those ranges, or stores them in 16 bits, as they come: no tensor exists in f32 as a whole, and no file is mapped, so
//! that the peak while loading is the finished model and a few megabytes.

mod assemble;
mod bnb;
mod checkpoint;
mod config;
mod context;
mod digest;
mod error;
mod file;
mod floats;
mod folder;
mod gguf;
mod gguf_spec;
mod incoming;
mod inspect;
mod location;
mod names;
mod onto;
mod report;
mod safetensors;
mod source;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use weft_common::gguf::GgufFile;
use weft_common::id::Digest;

pub use checkpoint::{BaseFormat, BaseTensor, Checkpoint, with_checkpoint};
pub use context::check_context;
pub use digest::model_digest;
pub use error::LoadError;
pub(crate) use gguf::stored_row;
pub use names::{Part, TensorRole};
pub use onto::{PlacedModel, load_onto, place};
pub use report::LoadReport;

use super::{ModelWeights, Spec};
use assemble::Assembly;
use digest::beside_digest;
use folder::Folder;
use gguf::Gguf;
use location::Location;
use source::WeightSource;

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Quantize the linears to NF4. Otherwise they keep the format they are stored in; those that a GGUF file quantizes
    /// become 16-bit. A bitsandbytes checkpoint stays as it is either way: what it left in 16 bits was left on purpose.
    pub load_in_4bit: bool,
    /// The digest of this base model, if [`model_digest`] has been called already; else it is computed.
    pub digest: Option<Digest>,
}

/// A base model in host memory.
#[derive(Debug)]
pub struct LoadedModel {
    /// Dimensions and conventions.
    pub spec: Spec,
    /// All tensors.
    pub weights: ModelWeights,
    /// What [`model_digest`] says of the files.
    pub digest: Digest,
    /// What loading took.
    pub report: LoadReport,
}

/// How far loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Parameters loaded so far.
    pub parameters_done: usize,
    /// Parameters of the model.
    pub parameters_total: usize,
}

/// Called after each matrix, from the loading thread.
pub type LoadProgressFn<'a> = &'a dyn Fn(LoadProgress);

/// What linears that the file does not hold in 4 bits become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Nf4,
    Stored,
    /// As [`Self::Stored`], and the blocks of a GGUF file's quantizations stay.
    Kept,
}

/// What the linears of a model become that is not trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// NF4.
    FourBit,
    /// As the file has them; 16 bits where a GGUF file quantizes them.
    SixteenBit,
    /// As the file has them, quantized or not.
    Kept,
}

impl WeightFormat {
    fn precision(self) -> Precision {
        match self {
            Self::FourBit => Precision::Nf4,
            Self::SixteenBit => Precision::Stored,
            Self::Kept => Precision::Kept,
        }
    }
}

impl LoadOptions {
    fn precision(&self) -> Precision {
        match self.load_in_4bit {
            true => Precision::Nf4,
            false => Precision::Stored,
        }
    }
}

/// Loads the base model at `path`. **Cost**: reads every file once, and once more beside that where the digest is not
/// given, from the system's cache where the machine has the memory.
///
/// # Errors
/// Whatever is missing, damaged or not supported, by name; nothing is skipped.
pub fn load(
    path: &Path,
    options: &LoadOptions,
    progress: LoadProgressFn<'_>,
) -> Result<LoadedModel, LoadError> {
    let started = Instant::now();
    let precision = options.precision();
    let ((spec, weights), digest) = beside_digest(path, options.digest, || {
        open(path, |spec, source| {
            Assembly::new(source, spec, precision, progress).run()
        })
    })?;
    let report = LoadReport::new(path, weights.bytes() as u64, started.elapsed())?;
    Ok(LoadedModel {
        spec,
        weights,
        digest,
        report,
    })
}

/// Checks the base model at `path` as [`load`] would, without keeping it: every file, every tensor's name, shape and
/// format. **Cost**: reads what bitsandbytes stored in 4 bits, of everything else the directories alone.
///
/// # Errors
/// Those of [`load`], but for weights that are not finite.
pub fn inspect(path: &Path) -> Result<Spec, LoadError> {
    let (spec, ()) = open(path, inspect::check_tensors)?;
    Ok(spec)
}

/// Reads a base model's dimensions without its weights.
///
/// # Errors
/// The path is no base model, or one of a family that is not supported.
pub fn read_spec(path: &Path) -> Result<Spec, LoadError> {
    match Location::find(path)? {
        Location::Folder { config, .. } => config::read_spec(&config),
        Location::Gguf(file) => gguf_spec::read_spec(&GgufFile::open(&file)?),
    }
}

/// Opens the base model at `path` and does `work` with its tensors.
fn open<T>(
    path: &Path,
    work: impl FnOnce(&Spec, &dyn WeightSource) -> Result<T, LoadError>,
) -> Result<(Spec, T), LoadError> {
    match Location::find(path)? {
        Location::Folder { config, shards } => {
            let spec = config::read_spec(&config)?;
            let done = work(&spec, &Folder::open(&shards)?)?;
            Ok((spec, done))
        }
        Location::Gguf(file) => {
            let container = GgufFile::open(&file)?;
            let spec = gguf_spec::read_spec(&container)?;
            let done = work(&spec, &Gguf::open(&container, &spec)?)?;
            Ok((spec, done))
        }
    }
}
