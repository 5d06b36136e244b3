//! `weft coordinator`: runs one recipe with workers that come by themselves.

use std::net::SocketAddr;

use tracing_subscriber::filter::LevelFilter;

use crate::exit::{Exit, Failure};
use crate::run::{Job, Place, RunArgs};

/// Arguments of `weft coordinator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Where workers connect to; port 0 takes a free one, which is printed
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7117")]
    listen: SocketAddr,
    /// Allows an address beyond this machine, where traffic is neither encrypted nor authenticated
    #[arg(long)]
    insecure: bool,
}

/// Coordinates one job to its end.
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
    let ready = args.run.preflight(args.listen)?;
    let place = Place {
        listen: args.listen,
        embedded_threads: None,
    };
    Job::new(ready, place).run()
}
