//! `weft eval`: loss and perplexity of a model on rows, and how near its answers come to the wanted ones.

mod files;
mod page;
mod results;
mod subject;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weft_common::data::{self, ChatTokenizer, Prepared};
use weft_worker::eval::metrics::Tally;
use weft_worker::eval::{EvalError, Examiners, Question, Subject};
use weft_worker::generate::GenerateOptions;

use crate::device::DeviceArgs;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::recipe::CacheArgs;
use results::{Answer, Evaluation, Report};
use subject::Chosen;

/// Arguments of `weft eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An adapter's folder, or a model's folder or .gguf file
    model: PathBuf,
    /// A recipe that says which base model and which rows; without it, --data says the rows
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Changes a key of the recipe; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "recipe")]
    sets: Vec<String>,
    /// Rows in a csv, json or jsonl file instead of the recipe's, read as the recipe's first dataset is; may be given
    /// several times
    #[arg(long, value_name = "FILE", required_unless_present = "recipe")]
    data: Vec<PathBuf>,
    /// Renames a column of --data, as in `--column question=instruction`; may be given several times
    #[arg(long = "column", value_name = "OLD=NEW", requires = "data")]
    columns: Vec<String>,
    /// Which rows of the recipe: `validation` (eval_datasets) or `train` (datasets) [default: validation where there is one]
    #[arg(long, conflicts_with = "data")]
    split: Option<Split>,
    /// Only this many rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<NonZeroUsize>,
    /// Evaluates the base model too, for comparison
    #[arg(long)]
    base_too: bool,
    /// Leaves out the answers and what is measured on them
    #[arg(long)]
    no_answers: bool,
    /// Most tokens of an answer
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    max_new_tokens: usize,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "eval")]
    output: PathBuf,
    /// Rows that are evaluated at a time on the CPU; on GPUs one each
    #[arg(long, value_name = "N", default_value = "1")]
    workers: NonZeroUsize,
    /// Compute threads in all [default: all cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Rows of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Split {
    /// Those that are trained on.
    Train,
    /// Those that are not.
    Validation,
}

/// Evaluates, prints the table and writes the files.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let chosen = Chosen::from_args(args)?;
    let tokenizer = chosen.tokenizer()?;
    let prepared = data::prepare(&chosen.recipe, &tokenizer, &args.cache.folder(), &|_| ())
        .map_err(|error| Failure::new(Exit::Data, error))?;
    let rows = prepared.stats().len();
    let rows = args.limit.map_or(rows, |limit| rows.min(limit.get()));
    let mut examiners = chosen.open(args, &prepared.stats()[..rows])?;
    let run = Run {
        args,
        tokenizer: &tokenizer,
        prepared: &prepared,
        rows,
        questions: questions(args, &chosen, &tokenizer, rows)?,
    };
    let base = chosen.adapter.is_none() || args.base_too;
    let base = base.then(|| run.evaluate(&mut examiners, Subject::Base));
    let adapted = chosen.adapter.is_some();
    let adapted = adapted.then(|| run.evaluate(&mut examiners, Subject::Adapted));
    let report = Report {
        model: chosen.recipe.model.base_model.clone(),
        adapter: chosen.adapter.clone(),
        split: chosen.split_name(),
        dataset: prepared.digest(),
        base: base.transpose()?,
        adapted: adapted.transpose()?,
    };
    files::write(&args.output, &report)?;
    print::line(format_args!(
        "{report}\nwritten to {}",
        args.output.display()
    ))
    .map(drop)
}

/// What is asked: the last answer of every row, whatever part of the rows is trained on.
fn questions(
    args: &Args,
    chosen: &Chosen,
    tokenizer: &ChatTokenizer,
    rows: usize,
) -> Result<Vec<Question>, Failure> {
    if args.no_answers {
        return Ok(Vec::new());
    }
    let mut recipe = chosen.recipe.clone();
    recipe.training.train_on_responses_only = true;
    let prepared = data::prepare(&recipe, tokenizer, &args.cache.folder(), &|_| ())
        .map_err(|error| Failure::new(Exit::Data, error))?;
    let numbers = 0..u32::try_from(rows.min(prepared.stats().len())).unwrap_or(u32::MAX);
    let total = numbers.len();
    let questions: Vec<_> = numbers
        .filter_map(|index| Question::of(&prepared.row(index)))
        .collect();
    if questions.len() < total {
        print::error(format_args!(
            "warning: {} of {total} rows are plain text, which asks nothing; they count for the loss alone",
            total - questions.len()
        ));
    }
    Ok(questions)
}

/// What is evaluated.
struct Run<'a> {
    args: &'a Args,
    tokenizer: &'a ChatTokenizer,
    prepared: &'a Prepared,
    rows: usize,
    questions: Vec<Question>,
}

impl Run<'_> {
    fn evaluate(&self, examiners: &mut Examiners, subject: Subject) -> Result<Evaluation, Failure> {
        let started = Instant::now();
        let failed = |error: EvalError| Failure::new(Exit::Model, error);
        let name = match subject {
            Subject::Base => "base",
            Subject::Adapted => "adapter",
        };
        let bar = progress(name, "loss", self.rows);
        let row = |index: usize| self.prepared.row(index as u32);
        let set = |done: usize| bar.set_position(done as u64);
        let loss = examiners.loss(self.rows, &row, subject, &set);
        bar.finish_and_clear();
        let loss = loss.map_err(failed)?;
        let bar = progress(name, "answers", self.questions.len());
        let set = |done: usize| bar.set_position(done as u64);
        let options = self.options();
        let answers = examiners.answers(&self.questions, &options, subject, &set);
        bar.finish_and_clear();
        let answers = self.texts(&answers.map_err(failed)?);
        let mut tally = Tally::default();
        for answer in &answers {
            tally.add(&answer.predict, &answer.label);
        }
        Ok(Evaluation {
            loss,
            scores: (tally.texts() > 0).then(|| tally.scores()),
            answers,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_new_tokens: self.args.max_new_tokens,
            stop_ids: self.tokenizer.eos_ids().to_vec(),
            ..GenerateOptions::default()
        }
    }

    fn texts(&self, answers: &[Vec<u32>]) -> Vec<Answer> {
        let text = |tokens: &[u32]| self.tokenizer.decode(tokens, true);
        let pairs = self.questions.iter().zip(answers);
        pairs
            .map(|(question, answer)| Answer {
                prompt: self.tokenizer.decode(&question.prompt, false),
                predict: text(answer),
                label: text(&question.answer),
            })
            .collect()
    }
}

fn progress(subject: &str, what: &str, count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // Hidden by itself where standard error is no terminal.
    ProgressBar::with_draw_target(Some(count as u64), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message(format!("{subject}: {what}"))
}
