//! The `weft` command line: one file a subcommand, each thin. What a command shows and leaves is in [`output`], how it
//! ends in [`exit`].

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "both panic once the reader is gone; print through output::print"
)]

mod audit;
mod bench;
mod client;
mod coordinator;
mod data;
mod device;
mod doctor;
mod eval;
mod exit;
mod export;
mod generate;
mod k8s;
mod logging;
mod output;
mod plan;
mod preflight;
mod push;
mod queue;
mod recipe;
mod run;
mod schema;
mod serve;
mod signals;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use exit::Failure;
use output::print;

/// Fine-tunes large language models with QLoRA, on one machine or many, from the same recipe.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains: an embedded coordinator and worker processes on this machine
    Run(run::Args),
    /// Shows what would run and finds every problem, without starting anything
    Plan(plan::Args),
    /// Shows or prepares the dataset
    #[command(subcommand)]
    Data(data::Command),
    /// Coordinates a queue of jobs, or one recipe, for workers that come by themselves
    Coordinator(coordinator::Args),
    /// Joins a coordinator and computes
    Worker(worker::Args),
    /// Hands a job to a coordinator's queue
    Submit(Box<client::submit::Args>),
    /// Shows a coordinator's queue
    Jobs(client::jobs::Args),
    /// Tells how a job stands, why it waits, and what happened to it
    Status(client::status::Args),
    /// Follows a job to its end
    Watch(client::watch::Args),
    /// Prints what happened to a job, or the figures of its steps
    Logs(client::logs::Args),
    /// Gives a job another number of workers
    Scale(client::scale::Args),
    /// Ends a job after its step and a checkpoint
    Cancel(client::cancel::Args),
    /// Shows a coordinator's workers
    Workers(client::workers::Args),
    /// Lets a worker go without loss
    Drain(client::drain::Args),
    /// Makes of an adapter what other programs load: merged models, GGUF files
    Export(Box<export::Args>),
    /// Lets a model write: a base model, an adapter on it, or what was exported
    Generate(generate::Args),
    /// Puts a model behind OpenAI's HTTP API
    Serve(serve::Args),
    /// Measures a model on rows: loss, perplexity, and its answers against the wanted ones
    Eval(Box<eval::Args>),
    /// Sends a folder to the Hugging Face hub
    Push(push::Args),
    /// Proves from the ledger that every sample counted once per pass over the data
    Audit(audit::Args),
    /// Puts a recipe on Kubernetes
    #[command(subcommand)]
    K8s(k8s::Command),
    /// Measures what this machine reaches, against what it could
    #[command(subcommand)]
    Bench(bench::Command),
    /// Shows what of CUDA is on this machine and what is missing; compiles kernels ahead
    Doctor(doctor::Args),
    /// Prints the recipe's keys: JSON schema, or tables
    Schema(schema::Args),
    /// Prints the version
    Version,
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Run(args) => run::run(&args),
            Self::Plan(args) => plan::run(&args),
            Self::Data(command) => data::run(&command),
            Self::Coordinator(args) => coordinator::run(&args),
            Self::Worker(args) => worker::run(&args),
            Self::Submit(args) => client::submit::run(&args),
            Self::Jobs(args) => client::jobs::run(&args),
            Self::Status(args) => client::status::run(&args),
            Self::Watch(args) => client::watch::run(&args),
            Self::Logs(args) => client::logs::run(&args),
            Self::Scale(args) => client::scale::run(&args),
            Self::Cancel(args) => client::cancel::run(&args),
            Self::Workers(args) => client::workers::run(&args),
            Self::Drain(args) => client::drain::run(&args),
            Self::Export(args) => export::run(&args),
            Self::Generate(args) => generate::run(&args),
            Self::Serve(args) => serve::run(&args),
            Self::Eval(args) => eval::run(&args),
            Self::Push(args) => push::run(&args),
            Self::Audit(args) => audit::run(&args),
            Self::K8s(command) => k8s::run(&command),
            Self::Bench(command) => bench::run(&command),
            Self::Doctor(args) => doctor::run(&args),
            Self::Schema(args) => schema::run(&args),
            Self::Version => {
                print::line(format_args!("weft {}", env!("CARGO_PKG_VERSION"))).map(drop)
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::error(&failure);
            failure.exit_code()
        }
    }
}
