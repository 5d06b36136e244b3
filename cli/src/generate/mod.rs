//! `weft generate`: lets a model write: one prompt, a file of prompts, or a conversation in the terminal.

mod batch;
mod chat;
mod model;
mod sampling;

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use weft_common::data::chat::Message;
use weft_worker::generate::{Completion, Prompt, TextModel};

pub(crate) use model::ModelArgs;
use sampling::SamplingArgs;

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Arguments of `weft generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the user says; without it and --prompts, a conversation over standard input
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Prompts from a file: one a line, or, in a .jsonl file, objects with `prompt` or `messages`
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// Where the answers to --prompts go, one JSON object a line [default: standard output]
    #[arg(long, value_name = "FILE", requires = "prompts")]
    output: Option<PathBuf>,
    /// A system message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Takes prompts as they are, without the chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Prints one JSON object with the answer and what it took
    #[arg(long)]
    json: bool,
}

/// Generates.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.prompt.is_none() && args.prompts.is_none() && args.raw {
        let problem = "--raw is for --prompt and --prompts: a conversation takes the chat template";
        return Err(Failure::new(Exit::Data, problem));
    }
    let checked = args.sampling.options().check();
    checked.map_err(|error| Failure::new(Exit::Data, error))?;
    let model = args.model.open()?;
    match (&args.prompt, &args.prompts) {
        (Some(prompt), _) => one(args, &model, prompt),
        (None, Some(prompts)) => batch::run(args, &model, prompts),
        (None, None) => chat::run(args, &model),
    }
}

fn one(args: &Args, model: &TextModel, prompt: &str) -> Result<(), Failure> {
    let tokens = encode(model, &args.prompt_of(prompt))?;
    if args.json {
        let answer = args.generate(model, &tokens, &mut |_| ControlFlow::Continue(()))?;
        return print::line(described(&answer)).map(drop);
    }
    stream(args, model, &tokens).map(drop)
}

/// Prints the answer as it comes, and a line feed.
fn stream(args: &Args, model: &TextModel, tokens: &[u32]) -> Result<Completion, Failure> {
    let mut failure = None;
    let answer = args.generate(model, tokens, &mut |text| match print::part(text) {
        Ok(listening) => listening,
        Err(failed) => {
            failure = Some(failed);
            ControlFlow::Break(())
        }
    })?;
    match failure {
        Some(failure) => Err(failure),
        None => print::line("").map(|_| answer),
    }
}

/// The tokens of a prompt.
fn encode(model: &TextModel, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
    let tokens = model
        .encode(prompt)
        .map_err(|error| Failure::new(Exit::Data, error))?;
    model
        .check_length(tokens.len())
        .map_err(|error| Failure::new(Exit::Data, error))?;
    Ok(tokens)
}

/// An answer, for programs.
fn described(answer: &Completion) -> Value {
    json!({
        "text": answer.text,
        "finish_reason": answer.end.name(),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "prefill_seconds": answer.prefill.as_secs_f64(),
        "decode_seconds": answer.decode.as_secs_f64(),
        "tokens_per_second": answer.tokens_per_second(),
    })
}

impl Args {
    fn prompt_of(&self, text: &str) -> Prompt {
        match self.raw {
            true => Prompt::Text(text.to_owned()),
            false => Prompt::Chat(self.after_system(vec![Message::user(text)])),
        }
    }

    /// The conversation with the system message in front, where it has none.
    fn after_system(&self, messages: Vec<Message>) -> Vec<Message> {
        let has_one = messages.iter().any(|message| message.role == "system");
        let system = self.system.iter().filter(|_| !has_one).map(Message::system);
        system.chain(messages).collect()
    }

    fn generate(
        &self,
        model: &TextModel,
        tokens: &[u32],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Failure> {
        let options = self.sampling.options();
        model
            .generate(tokens, (&options, self.sampling.stops()), on_text)
            .map_err(|error| Failure::new(Exit::Model, error))
    }
}
