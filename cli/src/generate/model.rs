//! Which model, for commands that let one write.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use weft_worker::generate::{OpenError, OpenOptions, TextModel, Weights};

use crate::device::DeviceArgs;
use crate::exit::{Exit, Failure};
use crate::recipe::CacheArgs;

/// A model and where to compute.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// A base or merged model (Hugging Face folder, 16-bit or bitsandbytes 4-bit, or .gguf file), or an adapter folder that
    /// names its base
    pub(crate) model: PathBuf,
    /// An adapter folder, as `weft run` leaves it
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// The tokenizer's own template (auto), the name of a built-in one, or a .jinja file
    #[arg(long, default_value = "auto")]
    chat_template: String,
    /// Holds the linears in NF4, true, or as the files have them, false [default: as an adapter was trained, true where that
    /// is not known; false without an adapter]
    #[arg(long, value_name = "BOOL")]
    load_in_4bit: Option<bool>,
    /// Takes a base model with another digest than the adapter was trained on: the same model in another form
    #[arg(long)]
    allow_other_base: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Compute threads on a CPU [default: all cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

impl ModelArgs {
    /// Loads it.
    ///
    /// # Errors
    /// Whatever of model, adapter, tokenizer and device cannot be used.
    pub(crate) fn open(&self) -> Result<TextModel, Failure> {
        let threads = crate::worker::compute_threads(self.threads)?;
        let device = self.device.first(threads, &self.cache)?;
        let options = OpenOptions {
            model: &self.model,
            adapter: self.adapter.as_deref(),
            chat_template: &self.chat_template,
            weights: match self.load_in_4bit {
                None => Weights::Auto,
                Some(true) => Weights::FourBit,
                Some(false) => Weights::Stored,
            },
            allow_other_base: self.allow_other_base,
            device: &device,
        };
        TextModel::open(&options, &|_| ()).map_err(|error| {
            let exit = match error {
                OpenError::Base(_)
                | OpenError::NamedBase { .. }
                | OpenError::OtherBase { .. }
                | OpenError::Adapter { .. } => Exit::Model,
                OpenError::Tokenizer(_) => Exit::Data,
                OpenError::Device(_) => Exit::Environment,
            };
            Failure::new(exit, error)
        })
    }
}
