//! `weft coordinator`: a queue of jobs, or one recipe, with workers that come by themselves.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;

use crate::exit::{Exit, Failure};
use crate::queue::QueueArgs;
use crate::recipe::RecipeArgs;
use crate::run::{Job, Manner, Place, RunArgs, RunOptions};

/// Arguments of `weft coordinator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recipe of the one job that it runs, and with which it ends; without one it is a queue that `weft submit` fills
    recipe: Option<PathBuf>,
    /// Changes a key of the recipe, as in `--set training.max_steps=10`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "recipe")]
    sets: Vec<String>,
    #[command(flatten)]
    options: RunOptions,
    /// Where workers and people connect to; port 0 takes a free one, which is printed
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7117")]
    listen: SocketAddr,
    /// Where a queue keeps its jobs [default: weft-state]
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    state: Option<PathBuf>,
    /// Allows an address beyond this machine, where traffic is neither encrypted nor authenticated
    #[arg(long)]
    insecure: bool,
    /// For what starts it again whenever it ends, as Kubernetes does: SIGTERM leaves the job and its workers as they are,
    /// for the next start to go on with; a job begins with the recipe's resources.workers.min and grows; once it is over,
    /// this stays and sends workers home that come late
    #[arg(long, requires = "recipe", requires = "resume")]
    service: bool,
}

/// Coordinates until it is stopped, or one job to its end.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    crate::logging::start(LevelFilter::INFO);
    if !args.listen.ip().is_loopback() && !args.insecure {
        return Err(Failure::new(
            Exit::Environment,
            format_args!(
                "{} is reachable from other machines without encryption or authentication; say --insecure where the \
                 network is trusted, or listen on 127.0.0.1",
                args.listen
            ),
        ));
    }
    match &args.recipe {
        Some(recipe) => run_one(args, recipe.clone()),
        None => crate::queue::run(QueueArgs {
            listen: args.listen,
            state: args
                .state
                .clone()
                .unwrap_or_else(|| PathBuf::from("weft-state")),
            cache: args.options.cache.folder(),
        }),
    }
}

fn run_one(args: &Args, recipe: PathBuf) -> Result<(), Failure> {
    let recipe = RecipeArgs::new(recipe, args.sets.clone());
    let request = RunArgs::new(recipe, args.options.clone());
    let ready = request.preflight(args.listen, &[])?;
    let place = Place {
        listen: args.listen,
        embedded: None,
        manner: if args.service {
            Manner::Service
        } else {
            Manner::Command
        },
    };
    Job::new(ready, place).run()
}
