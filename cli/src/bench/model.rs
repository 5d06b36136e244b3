//! `--model`: whose dimensions a measurement has.

use std::path::PathBuf;

use weft_worker::agent::{EngineError, ErrorKind};
use weft_worker::bench::{BenchError, BenchModel};
use weft_worker::model::Preset;
use weft_worker::train::session::TrainerError;

use crate::exit::{Exit, Failure};

/// Which model.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// Whose dimensions: `llama-3-8b`, `llama-3.2-3b`, `llama-3.2-1b`, `llama-2-7b`, `mistral-7b`, `gemma-1.1-7b`,
    /// `smollm2-135m` or `tiny` with random weights, or a model's folder or .gguf file
    #[arg(long, value_name = "NAME|FOLDER")]
    model: String,
    /// Makes weights up instead of reading any: speed and memory do not depend on their values
    #[arg(long)]
    random_weights: bool,
}

impl ModelArgs {
    /// What is measured.
    ///
    /// # Errors
    /// A name without --random-weights, or what is neither a name nor there.
    pub(super) fn model(&self) -> Result<BenchModel, Failure> {
        let path = PathBuf::from(&self.model);
        match (Preset::named(&self.model), self.random_weights) {
            (Some(preset), true) => Ok(BenchModel::Preset(preset)),
            (Some(_), false) => Err(Failure::new(
                Exit::Model,
                format_args!(
                    "--model {} is a name, of which only the dimensions are known; add --random-weights, or give the \
                     model's folder",
                    self.model
                ),
            )),
            (None, _) if !path.exists() => Err(Failure::new(
                Exit::Model,
                format_args!(
                    "--model {} is neither a folder or file nor a name; names are {}",
                    self.model,
                    Preset::ALL.map(Preset::name).join(", ")
                ),
            )),
            (None, true) => Ok(BenchModel::RandomLike(path)),
            (None, false) => Ok(BenchModel::Folder(path)),
        }
    }
}

/// How a measurement that failed ends.
pub(super) fn exit_of(error: &BenchError) -> Exit {
    match error {
        BenchError::Model(_)
        | BenchError::Context(_)
        | BenchError::Trainer(TrainerError::Model(_) | TrainerError::Lora(_)) => Exit::Model,
        BenchError::Device(_)
        | BenchError::Trainer(TrainerError::Room(_) | TrainerError::Device(_))
        | BenchError::Step(EngineError {
            kind: ErrorKind::Memory,
            ..
        }) => Exit::Environment,
        BenchError::Generate(_) => Exit::Model,
        BenchError::Generation(_) | BenchError::Step(_) => Exit::Job,
    }
}
