//! `weft k8s`: a recipe on Kubernetes, as plain manifests.
//!
//! [`values`] are what the options hold, [`pods`] is the recipe as pods see it, [`objects`] builds the objects from both,
//! and [`render`] reads, warns and prints. Nothing here talks to a cluster.
//!
//! The coordinator is a StatefulSet, so that it comes back with its name; workers are an elastic Indexed Job, so that
//! their number can change, those that are killed come back, and all of them end with the job. One volume that all pods
//! share holds what lies in the recipe's folder, and takes the results.

mod manifest;
mod objects;
mod pods;
mod render;
mod values;

use crate::exit::Failure;

/// Subcommands of `weft k8s`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Prints the manifests of a coordinator and its workers for one recipe
    Render(Box<render::Args>),
}

/// Runs the subcommand.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Render(args) => render::run(args),
    }
}
