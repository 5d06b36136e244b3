//! `weft serve`: a model behind OpenAI's HTTP API, for trying it out with clients that speak it.
//!
//! ```text
//! connection ─ http (routes, key, limits) ─ request ─ Desk (a bounded queue) ─ one thread with the model
//!      ▲                                                                            │
//!      └──────────────────── reply (JSON, or events as the text comes) ◄────────────┘
//! ```
//!
//! A request is generated at a time. One whose client has gone is dropped from the queue, or ends with its next token.

mod ask;
mod desk;
mod error;
mod http;
mod reply;

use std::fs;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::info;
use tracing_subscriber::filter::LevelFilter;

use crate::exit::{Exit, Failure};
use crate::generate::ModelArgs;
use crate::output::print;
use crate::signals::StopSignals;

use ask::Defaults;
use desk::Desk;
use http::Service;

/// Arguments of `weft serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Where clients connect to; port 0 takes a free one, which is printed
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Allows an address beyond this machine, where traffic is not encrypted
    #[arg(long)]
    insecure: bool,
    /// A file with the keys that clients may show, one a line; without it everybody may ask
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// What the model is called [default: the last part of its path]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Requests that may wait while one is answered; more are refused
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(16).expect("16 is not 0"))]
    queue: NonZeroUsize,
    /// Seconds that a request may take, waiting included
    #[arg(long, value_name = "SECONDS", default_value_t = NonZeroU64::new(600).expect("600 is not 0"))]
    deadline: NonZeroU64,
    /// Tokens of an answer where the request does not say
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_new_tokens: usize,
}

/// Serves until it is stopped.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    crate::logging::start(LevelFilter::INFO);
    if !args.listen.ip().is_loopback() && !args.insecure {
        return Err(Failure::new(
            Exit::Environment,
            format_args!(
                "{} is reachable from other machines without encryption; say --insecure where the network is trusted, or \
                 listen on 127.0.0.1",
                args.listen
            ),
        ));
    }
    let keys = args.keys()?;
    let model = Arc::new(args.model.open()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| environment(&format_args!("cannot start: {error}")))?;
    let desk = Desk::open(model.clone(), args.queue.get())
        .map_err(|error| environment(&format_args!("cannot start a thread: {error}")))?;
    let service = Service {
        model,
        desk,
        keys,
        name: args.served_name(),
        deadline: Duration::from_secs(args.deadline.get()),
        defaults: Defaults {
            max_new_tokens: args.max_new_tokens,
        },
    };
    runtime.block_on(serve(args.listen, service))
}

async fn serve(listen: SocketAddr, service: Service) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        environment(&format_args!(
            "cannot listen on {listen}: {error}; choose another with --listen"
        ))
    };
    let mut signals = StopSignals::listen().map_err(failed)?;
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let name = service.name.clone();
    if print::line(format_args!("{name} answers on http://{address}/v1"))?.is_break() {
        info!("nobody reads standard output");
    }
    let service = Arc::new(service);
    tokio::select! {
        () = http::accept(&listener, service.clone()) => {}
        signal = signals.next() => info!(signal, "stopping"),
    }
    // Answers under way end with their next token, and are told so.
    service.desk.close();
    Ok(())
}

fn environment(problem: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Environment, problem)
}

impl Args {
    fn keys(&self) -> Result<Vec<String>, Failure> {
        let Some(path) = &self.api_key_file else {
            return Ok(Vec::new());
        };
        let refused = |problem: &dyn std::fmt::Display| {
            environment(&format_args!(
                "--api-key-file {}: {problem}",
                path.display()
            ))
        };
        let text = fs::read_to_string(path).map_err(|error| refused(&error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<String> = lines.map(str::to_owned).collect();
        match keys.is_empty() {
            true => Err(refused(&"it holds no key; write one a line")),
            false => Ok(keys),
        }
    }

    fn served_name(&self) -> String {
        let path = self.model.adapter.as_ref().unwrap_or(&self.model.model);
        let last = path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned());
        let own = self.name.clone().or(last);
        own.unwrap_or_else(|| "weft".to_owned())
    }
}
