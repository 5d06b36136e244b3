//! `weft coordinator` without a recipe: a queue of jobs on one pool of workers.

mod attendant;
mod house;
mod inspect;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_common::id::Term;
use weft_coordinator::{Coordinator, CoordinatorConfig, Limits, Queue, RecipeData};

use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::signals::StopSignals;
use house::House;

/// How long what is under way may hold up the end of the process.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How a queue is started.
#[derive(Debug)]
pub(crate) struct QueueArgs {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where it keeps its jobs.
    pub(crate) state: PathBuf,
    /// Where prepared datasets lie.
    pub(crate) cache: PathBuf,
}

/// Runs a queue until someone ends it.
pub(crate) fn run(args: QueueArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(environment)?;
    let ended = runtime.block_on(serve(args));
    // A job that is being looked at may take minutes; nobody has been told that it was taken.
    runtime.shutdown_timeout(END_WITHIN);
    ended
}

async fn serve(args: QueueArgs) -> Result<(), Failure> {
    let mut signals = StopSignals::listen().map_err(environment)?;
    let state = std::path::absolute(&args.state).unwrap_or(args.state);
    let house = Arc::new(House::new(args.cache.clone()));
    let config = CoordinatorConfig {
        listen: args.listen,
        state_dir: state.clone(),
        after: unique_term(),
        data: Arc::new(RecipeData {
            cache_dir: args.cache,
        }),
        queue: Some(Queue {
            preflight: house.clone(),
            attend: house,
        }),
        limits: Limits {
            outlives_jobs: true,
            ..Limits::default()
        },
    };
    let coordinator = Coordinator::bind(config).await.map_err(environment)?;
    print::aside(format_args!("listening on http://{}", coordinator.addr));
    tokio::select! {
        () = coordinator.handle.stopped() => coordinator.wait().await,
        signal = signals.next() => {
            coordinator.leave().await;
            print::error(format_args!(
                "{signal}: the queue stays in {}; jobs go on, and workers wait, until a coordinator is started there again",
                state.display()
            ));
        }
    }
    Ok(())
}

/// Seconds since 1970: later than the terms of runs of their own, which count their starts, and of earlier queues. So a
/// queue may go on with what any of them left.
fn unique_term() -> Term {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Term(now.map_or(0, |since| since.as_secs()))
}

fn environment(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Environment, error)
}
