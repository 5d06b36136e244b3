//! Arguments of `weft export`.

use std::path::PathBuf;

use weft_worker::export::{Format, HalfType, MergeBase, Quantization, Request};

use super::beside;
use crate::exit::{Exit, Failure};

/// Arguments of `weft export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapter's folder, as `weft run` leaves it
    adapter: PathBuf,
    /// What comes out; may be given several times
    #[arg(long, required = true, value_delimiter = ',', value_name = "FORMAT")]
    format: Vec<FormatArg>,
    /// Files of the formats gguf (q4_k_m where nothing is said) and gguf-lora (f16): f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s,
    /// q4_k_m, q4_k_s; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "TYPE", value_parser = quantization)]
    quantization: Vec<Quantization>,
    /// The base model, a folder or a .gguf file, where it is not the one that the adapter names
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    /// What the adapter is added to: the base model's own numbers, or those that training in 4 bits saw; where nothing is said,
    /// the numbers of its files
    #[arg(long, value_name = "NUMBERS")]
    merge_base: Option<MergeBaseArg>,
    /// Format of 16-bit numbers, where it is not the base model's
    #[arg(long, value_name = "TYPE")]
    dtype: Option<HalfArg>,
    /// The folder to make; where nothing is said, one beside the adapter that is called as the format (adapter-export for adapter)
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What the model is called, in names of files too; as the run's folder where nothing is said
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// What the adapter and the model card call the base model, such as its name on the hub
    #[arg(long, value_name = "NAME")]
    base_name: Option<String>,
    /// Replaces an earlier export
    #[arg(long)]
    overwrite: bool,
    /// Takes a base model with another digest than the adapter was trained on: the same model in another form
    #[arg(long)]
    allow_other_base: bool,
    /// Prints what was made as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// The adapter alone, as PEFT loads it, with a model card
    Adapter,
    /// The merged model in 16 bits, as transformers loads it
    #[value(name = "merged-16bit")]
    Merged16Bit,
    /// The merged model in bitsandbytes' NF4
    #[value(name = "merged-4bit")]
    Merged4Bit,
    /// The merged model for llama.cpp and Ollama
    Gguf,
    /// The adapter alone, for llama.cpp
    GgufLora,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MergeBaseArg {
    /// The original numbers; a base model that has them in 4 bits alone is refused
    #[value(name = "16bit")]
    Stored,
    /// Those numbers after NF4, bit for bit as training saw them
    Nf4,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HalfArg {
    /// bfloat16
    Bf16,
    /// IEEE half precision
    F16,
}

fn quantization(text: &str) -> Result<Quantization, String> {
    Quantization::named(text).ok_or_else(|| {
        let names: Vec<_> = Quantization::ALL
            .iter()
            .map(|quantization| quantization.name())
            .collect();
        format!("weft writes {}", names.join(", "))
    })
}

fn name(text: &str) -> Result<String, String> {
    let is_file_name =
        !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\\', '\0']);
    match is_file_name {
        true => Ok(text.to_owned()),
        false => Err("it names files: leave out slashes and a leading dot".to_owned()),
    }
}

impl FormatArg {
    fn format(self) -> Format {
        match self {
            Self::Adapter => Format::Adapter,
            Self::Merged16Bit => Format::Merged16Bit,
            Self::Merged4Bit => Format::Merged4Bit,
            Self::Gguf => Format::Gguf,
            Self::GgufLora => Format::GgufLora,
        }
    }
}

impl Args {
    /// One request for each format.
    pub(super) fn requests(&self) -> Result<Vec<Request>, Failure> {
        let mut formats: Vec<Format> = Vec::new();
        for format in self.format.iter().map(|format| format.format()) {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        if self.output.is_some() && formats.len() > 1 {
            let text = "--output names one folder; leave it out, or ask for one --format at a time";
            return Err(Failure::new(Exit::Environment, text));
        }
        let takes_quantization = formats
            .iter()
            .any(|format| matches!(format, Format::Gguf | Format::GgufLora));
        if !self.quantization.is_empty() && !takes_quantization {
            let text = "--quantization is for the formats gguf and gguf-lora; leave it out, or add one of them";
            return Err(Failure::new(Exit::Environment, text));
        }
        let requests = formats.into_iter().map(|format| self.request(format));
        Ok(requests.collect())
    }

    fn request(&self, format: Format) -> Request {
        let output = self.output.clone();
        Request {
            adapter: self.adapter.clone(),
            base: self.base.clone(),
            format,
            quantizations: self.quantizations(format),
            merge_base: self.merge_base.map(|base| match base {
                MergeBaseArg::Stored => MergeBase::Stored,
                MergeBaseArg::Nf4 => MergeBase::Nf4,
            }),
            half: self.dtype.map(|half| match half {
                HalfArg::Bf16 => HalfType::Bf16,
                HalfArg::F16 => HalfType::F16,
            }),
            output: output.unwrap_or_else(|| beside(&self.adapter, format.folder())),
            name: self.name.clone(),
            base_name: self.base_name.clone(),
            overwrite: self.overwrite,
            allow_other_base: self.allow_other_base,
        }
    }

    /// Each once, in the order in which they were given.
    fn quantizations(&self, format: Format) -> Vec<Quantization> {
        let mut quantizations: Vec<Quantization> = Vec::new();
        for &quantization in &self.quantization {
            if !quantizations.contains(&quantization) {
                quantizations.push(quantization);
            }
        }
        if quantizations.is_empty() {
            quantizations.push(match format {
                Format::GgufLora => Quantization::F16,
                Format::Adapter | Format::Merged16Bit | Format::Merged4Bit | Format::Gguf => {
                    Quantization::Q4KM
                }
            });
        }
        quantizations
    }
}
