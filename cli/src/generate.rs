//! `weft generate`: lets a base model, or an adapter on it, answer a prompt.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_common::data::ChatTokenizer;
use weft_common::data::chat::Message;
use weft_common::recipe::{LoraSection, TargetModules};
use weft_worker::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, read_adapter_model};
use weft_worker::generate::{GenerateOptions, Generator, Sampling};
use weft_worker::lora::Adapter;
use weft_worker::model::loader::{LoadOptions, load};
use weft_worker::model::{Model, Spec};
use weft_worker::ops::Cpu;

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Arguments of `weft generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A base model (Hugging Face folder or .gguf file), or an adapter folder that names one
    model: PathBuf,
    /// An adapter folder, as `weft run` leaves it
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// What the user says
    #[arg(long)]
    prompt: String,
    /// A system message
    #[arg(long)]
    system: Option<String>,
    /// Takes the prompt as it is, without the chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// The tokenizer's own template (auto), the name of a built-in one, or a .jinja file
    #[arg(long, default_value = "auto")]
    chat_template: String,
    /// Stops after this many tokens
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Samples; without it and the three below the likeliest token is always taken
    #[arg(long)]
    temperature: Option<f32>,
    /// Samples among this many of the likeliest tokens
    #[arg(long)]
    top_k: Option<usize>,
    /// Samples among the likeliest tokens that together reach this probability
    #[arg(long)]
    top_p: Option<f32>,
    /// Samples among the tokens at least this fraction as probable as the likeliest
    #[arg(long)]
    min_p: Option<f32>,
    /// Makes tokens that were there before less likely
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the sampling
    #[arg(long, default_value_t = 3407)]
    seed: u64,
}

/// Prints the answer as it comes.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let model_error = |error: &dyn std::fmt::Display| Failure::new(Exit::Model, error);
    let (base, adapter_dir) = find_models(args)?;
    let tokenizer = ChatTokenizer::load(&base, None, &args.chat_template)
        .map_err(|error| Failure::new(Exit::Data, error))?;
    let prompt = encode_prompt(args, &tokenizer)?;
    let options = LoadOptions {
        load_in_4bit: true,
        digest: None,
    };
    let loaded = load(&base, &options, &|_| {}).map_err(|error| model_error(&error))?;
    let adapter = adapter_dir
        .map(|dir| load_adapter(&dir, &loaded.spec))
        .transpose()?;
    let model =
        Model::new(Cpu::new(), loaded.spec, loaded.weights).map_err(|error| model_error(&error))?;
    let mut printer = Printer::new(&tokenizer);
    Generator::new(&model, adapter.as_ref())
        .generate(&prompt, &generate_options(args, &tokenizer), &mut |token| {
            printer.push(token)
        })
        .map_err(|error| model_error(&error))?;
    printer.finish()
}

/// The base model, and the adapter where there is one.
fn find_models(args: &Args) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if args.adapter.is_some() || !args.model.join(ADAPTER_CONFIG_FILE).exists() {
        return Ok((args.model.clone(), args.adapter.clone()));
    }
    let config = PeftConfig::read(&args.model)?;
    Ok((
        PathBuf::from(config.base_model_name_or_path),
        Some(args.model.clone()),
    ))
}

fn encode_prompt(args: &Args, tokenizer: &ChatTokenizer) -> Result<Vec<u32>, Failure> {
    if args.raw {
        return Ok(tokenizer.encode(&args.prompt, true));
    }
    let system = args.system.iter().map(Message::system);
    let messages: Vec<Message> = system.chain([Message::user(&args.prompt)]).collect();
    let text = tokenizer
        .render(&messages, true)
        .map_err(|error| Failure::new(Exit::Data, error))?;
    Ok(tokenizer.encode(&text, !tokenizer.starts_with_bos(&text)))
}

fn generate_options(args: &Args, tokenizer: &ChatTokenizer) -> GenerateOptions {
    let sampled = args.temperature.is_some()
        || args.top_k.is_some()
        || args.top_p.is_some()
        || args.min_p.is_some();
    GenerateOptions {
        max_new_tokens: args.max_new_tokens,
        stop_ids: tokenizer.eos_ids().to_vec(),
        repetition_penalty: args.repetition_penalty,
        sampling: sampled.then(|| Sampling {
            temperature: args.temperature.unwrap_or(1.0),
            top_k: args.top_k.unwrap_or(0),
            top_p: args.top_p.unwrap_or(1.0),
            min_p: args.min_p.unwrap_or(0.0),
            seed: args.seed,
        }),
    }
}

/// What of PEFT's `adapter_config.json` an adapter's use depends on.
#[derive(Debug, Deserialize)]
struct PeftConfig {
    base_model_name_or_path: String,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: TargetModules,
}

impl PeftConfig {
    fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(ADAPTER_CONFIG_FILE);
        let refused = |error: &dyn std::fmt::Display| {
            let text = format!(
                "{} cannot be read: {error}; give a LoRA adapter as PEFT writes it",
                path.display()
            );
            Failure::new(Exit::Model, text)
        };
        let text = fs::read(&path).map_err(|error| refused(&error))?;
        serde_json::from_slice(&text).map_err(|error| refused(&error))
    }
}

fn load_adapter(dir: &Path, spec: &Spec) -> Result<Adapter, Failure> {
    let config = PeftConfig::read(dir)?;
    let lora = LoraSection {
        r: config.r,
        lora_alpha: config.lora_alpha,
        use_rslora: config.use_rslora,
        target_modules: config.target_modules,
        ..LoraSection::default()
    };
    let mut adapter =
        Adapter::new(spec, &lora, 0).map_err(|error| Failure::new(Exit::Model, error))?;
    let path = dir.join(ADAPTER_MODEL_FILE);
    let refused = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Model, format_args!("{}: {error}", path.display()))
    };
    let bytes = fs::read(&path).map_err(|error| refused(&error))?;
    let values = read_adapter_model(&bytes, adapter.layout()).map_err(|error| refused(&error))?;
    adapter.values_mut().copy_from_slice(&values);
    Ok(adapter)
}

/// Prints tokens as text. A character may be spread over several tokens, so what is not whole yet waits.
struct Printer<'a> {
    tokenizer: &'a ChatTokenizer,
    tokens: Vec<u32>,
    printed: usize,
    failure: Option<Failure>,
}

impl<'a> Printer<'a> {
    fn new(tokenizer: &'a ChatTokenizer) -> Self {
        Self {
            tokenizer,
            tokens: Vec::new(),
            printed: 0,
            failure: None,
        }
    }

    fn push(&mut self, token: u32) -> ControlFlow<()> {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens, true);
        if text.ends_with('\u{fffd}') {
            return ControlFlow::Continue(());
        }
        self.print(&text)
    }

    fn finish(mut self) -> Result<(), Failure> {
        let text = self.tokenizer.decode(&self.tokens, true);
        let _ = self.print(&text);
        match self.failure {
            Some(failure) => Err(failure),
            None => print::line("").map(drop),
        }
    }

    /// Prints what is new; a closed pipe ends the generation.
    fn print(&mut self, text: &str) -> ControlFlow<()> {
        let Some(fresh) = text.get(self.printed..) else {
            return ControlFlow::Continue(());
        };
        self.printed = text.len();
        match print::part(fresh) {
            Ok(listening) => listening,
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }
}
