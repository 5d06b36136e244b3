//! `weft bench`: what this machine reaches, against what it could.

mod generate;
mod model;
mod reduce;
mod report;
mod scale;
mod step;

use crate::exit::Failure;

/// Subcommands of `weft bench`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Measures training steps: tokens per second, memory, and the share of what the device could do
    Step(step::Args),
    /// Measures the all-reduce on the real link: forming, summing, calling off
    Reduce(reduce::Args),
    /// Measures generation: tokens per second, and the share of what reading the weights takes
    Generate(generate::Args),
    /// Computes what steps would cost on many GPUs
    Scale(scale::Args),
}

/// Measures.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Step(args) => step::run(args),
        Command::Reduce(args) => reduce::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Scale(args) => scale::run(args),
    }
}
