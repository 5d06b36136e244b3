//! From files to a model that writes text.

use std::path::{Path, PathBuf};

use weft_common::data::{ChatTokenizer, TokenizerError};
use weft_common::id::Digest;

use super::adapter::{self, AdapterConfig, Training};
use super::text_model::{Continue, Loaded, TextModel};
use crate::device::Device;
use crate::lora::Adapter;
use crate::model::Model;
use crate::model::loader::{self, LoadError, LoadProgressFn, WeightFormat};
use crate::ops::cuda::Cuda;
use crate::ops::{Cpu, DeviceError, Ops};

/// Which model to open, and how.
#[derive(Debug)]
pub struct OpenOptions<'a> {
    /// A base model (a Hugging Face folder, 16-bit or bitsandbytes 4-bit, or a GGUF file), or an adapter's folder, which
    /// names its base.
    pub model: &'a Path,
    /// An adapter's folder, for a base model that is named itself.
    pub adapter: Option<&'a Path>,
    /// The tokenizer's own chat template (`auto`), the name of a built-in one, or a `.jinja` file.
    pub chat_template: &'a str,
    /// What the linears become.
    pub weights: Weights,
    /// Whether the base may have another digest than the one that the adapter was trained on: the same model in another form.
    pub allow_other_base: bool,
    /// Where to compute.
    pub device: &'a Device,
}

/// What a model's linears are held as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// Under an adapter as it was trained, NF4 where that is not known; else as the files have them.
    #[default]
    Auto,
    /// NF4.
    FourBit,
    /// As the files have them.
    Stored,
}

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The base model.
    #[error(transparent)]
    Base(#[from] LoadError),
    /// The base model that an adapter names.
    #[error("the adapter {} names the base model {}: {source}; name the base model, and the adapter with --adapter", .adapter.display(), .base.display())]
    NamedBase {
        /// The adapter's folder.
        adapter: PathBuf,
        /// What it names.
        base: PathBuf,
        /// What is wrong with that.
        source: Box<LoadError>,
    },
    /// The adapter.
    #[error("{} cannot be used: {problem}; give a LoRA adapter of this base model, as PEFT writes it", .path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The adapter was trained on other weights.
    #[error("the adapter {} was trained on the base model with digest {expected}, {} has {found}; name the one that it was trained on, or say --allow-other-base where this is the same model in another form", .adapter.display(), .base.display())]
    OtherBase {
        /// The adapter's folder.
        adapter: PathBuf,
        /// The base model.
        base: PathBuf,
        /// What the adapter was trained on.
        expected: Digest,
        /// What there is.
        found: Digest,
    },
    /// The tokenizer or its template.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What is to be opened.
struct Files {
    base: PathBuf,
    adapter: Option<PathBuf>,
    /// Whether the adapter named the base.
    named: bool,
}

impl TextModel {
    /// Opens a model. `progress` is told of the weights as they come.
    ///
    /// # Errors
    /// What of base model, adapter, tokenizer and device is missing, damaged or does not go together.
    pub fn open(
        options: &OpenOptions<'_>,
        progress: LoadProgressFn<'_>,
    ) -> Result<Self, OpenError> {
        let files = Files::find(options)?;
        let spec = loader::read_spec(&files.base).map_err(|error| files.base_error(error))?;
        let tokenizer = files.tokenizer(options.chat_template)?;
        let adapter = files.adapter.as_deref();
        let adapter = adapter
            .map(|folder| adapter::load(folder, &spec))
            .transpose()?;
        let training = files.check_training(options.allow_other_base)?;
        let quantize = match options.weights {
            Weights::Auto => adapter.is_some() && training.in_4_bits().unwrap_or(true),
            Weights::FourBit => true,
            Weights::Stored => false,
        };
        let path = files.base.as_path();
        let rank = adapter
            .as_ref()
            .map_or(0, |adapter| adapter.layout().max_rank());
        let model = match options.device {
            Device::Cpu { .. } => {
                let format = format(quantize, WeightFormat::Kept);
                let cpu = Cpu::new().for_generation();
                let model = loader::place(cpu, path, format, progress);
                boxed(model.map_err(|error| files.base_error(error))?, adapter)?
            }
            Device::Cuda { gpu, kernels } => {
                let format = format(quantize, WeightFormat::SixteenBit);
                let cuda = Cuda::for_generation((gpu, kernels), (&spec, rank))?;
                let model = loader::place(cuda, path, format, progress);
                boxed(model.map_err(|error| files.base_error(error))?, adapter)?
            }
        };
        Ok(Self::new(tokenizer, model))
    }
}

fn format(quantize: bool, otherwise: WeightFormat) -> WeightFormat {
    match quantize {
        true => WeightFormat::FourBit,
        false => otherwise,
    }
}

/// The model with its adapter on the device; what failed there is told now.
fn boxed<O: Ops + 'static>(
    model: Model<O>,
    adapter: Option<Adapter>,
) -> Result<Box<dyn Continue>, OpenError> {
    let adapter = adapter.map(|adapter| adapter.map(|values| model.ops().upload_adapter(values)));
    model.ops().health()?;
    Ok(Box::new(Loaded { model, adapter }))
}

impl Files {
    fn find(options: &OpenOptions<'_>) -> Result<Self, OpenError> {
        let model = options.model;
        if options.adapter.is_some() || !adapter::is_adapter(model) {
            return Ok(Self {
                base: model.to_owned(),
                adapter: options.adapter.map(Path::to_owned),
                named: false,
            });
        }
        Ok(Self {
            base: AdapterConfig::read(model)?.base(model),
            adapter: Some(model.to_owned()),
            named: true,
        })
    }

    /// What is known of the adapter's training, which must have been on this base.
    fn check_training(&self, allow_other_base: bool) -> Result<Training, OpenError> {
        let Some(adapter) = &self.adapter else {
            return Ok(Training::default());
        };
        let training = Training::read(adapter)?;
        if let Some(expected) = training.base().filter(|_| !allow_other_base) {
            let found = loader::model_digest(&self.base).map_err(|error| self.base_error(error))?;
            if found != expected {
                return Err(OpenError::OtherBase {
                    adapter: adapter.clone(),
                    base: self.base.clone(),
                    expected,
                    found,
                });
            }
        }
        Ok(training)
    }

    /// The adapter's own, which has the template that it was trained with; else the base model's.
    fn tokenizer(&self, chat_template: &str) -> Result<ChatTokenizer, TokenizerError> {
        let own = self
            .adapter
            .as_deref()
            .filter(|folder| folder.join("tokenizer.json").is_file());
        ChatTokenizer::load(&self.base, own, chat_template)
    }

    fn base_error(&self, source: LoadError) -> OpenError {
        match &self.adapter {
            Some(adapter) if self.named => OpenError::NamedBase {
                adapter: adapter.clone(),
                base: self.base.clone(),
                source: Box::new(source),
            },
            Some(_) | None => OpenError::Base(source),
        }
    }
}
