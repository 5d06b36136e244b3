//! `weft bench`: what this machine reaches, against what it could.

mod report;
mod step;

use crate::exit::Failure;

/// Subcommands of `weft bench`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Measures training steps: tokens per second, memory, and the share of what the device could do
    Step(step::Args),
}

/// Measures.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Step(args) => step::run(args),
    }
}
