//! What an export is asked for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ExportError, Quantization};

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The adapter alone, as PEFT loads it.
    Adapter,
    /// The merged model in 16 bits, as transformers loads it.
    Merged16Bit,
    /// The merged model in bitsandbytes' NF4.
    Merged4Bit,
    /// The merged model for llama.cpp and Ollama.
    Gguf,
    /// The adapter alone, for llama.cpp.
    GgufLora,
}

impl Format {
    /// As written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Merged16Bit => "merged-16bit",
            Self::Merged4Bit => "merged-4bit",
            Self::Gguf => "gguf",
            Self::GgufLora => "gguf-lora",
        }
    }

    /// What an export's folder is called where nothing else is said.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            // `adapter` is the one that training leaves.
            Self::Adapter => "adapter-export",
            Self::Merged16Bit | Self::Merged4Bit | Self::Gguf | Self::GgufLora => self.name(),
        }
    }
}

/// What the adapter is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeBase {
    /// The numbers of the base model's files.
    Stored,
    /// Those numbers after NF4, which is what training with `load_in_4bit` saw.
    Nf4,
}

/// Floats of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfType {
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// An export.
#[derive(Debug, Clone)]
pub struct Request {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The base model, where it is not the one that the adapter names.
    pub base: Option<PathBuf>,
    /// What comes out.
    pub format: Format,
    /// The files of [`Format::Gguf`] and [`Format::GgufLora`], one each.
    pub quantizations: Vec<Quantization>,
    /// What the adapter is added to; `None`: the files' own numbers, whatever they are.
    pub merge_base: Option<MergeBase>,
    /// Format of 16-bit tensors; `None`: the base model's, and bfloat16 where it has neither.
    pub half: Option<HalfType>,
    /// The folder that the export becomes.
    pub output: PathBuf,
    /// What the model is called in files and in what they say; `None`: after the base model.
    pub name: Option<String>,
    /// What the adapter and the model card call the base model; `None`: as the adapter does.
    pub base_name: Option<String>,
    /// Replace an earlier export.
    pub overwrite: bool,
    /// Take a base model with another digest than the adapter was trained on.
    pub allow_other_base: bool,
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tensors written.
    pub done: usize,
    /// Tensors of the model.
    pub total: usize,
}

/// How an export is watched and stopped.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Set from any thread: nothing more is computed, and nothing is left behind.
    pub stop: &'a AtomicBool,
    /// Called after each tensor, from the exporting thread.
    pub progress: &'a dyn Fn(Progress),
}

impl Control<'_> {
    pub(super) fn go_on(stop: &AtomicBool) -> Result<(), ExportError> {
        match stop.load(Ordering::Relaxed) {
            true => Err(ExportError::Interrupted),
            false => Ok(()),
        }
    }
}
