//! `weft drain`: lets a worker go without loss.

use serde::Serialize;
use weft_proto::v1::{DrainWorkerRequest, WorkerInfo};

use super::connect::{About, ConnectArgs};
use super::workers::{self, WorkerDocument};
use crate::exit::{Exit, Failure};
use crate::output::print;

/// Arguments of `weft drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The worker: its id, the beginning of it, or its host where it is the only one there
    worker: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Which worker was asked to go, for programs.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    worker: WorkerDocument,
    draining: bool,
}

/// Asks a worker to go.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let worker = super::block_on(drain(args))?;
    if args.json {
        return super::print_json(&Document {
            worker: WorkerDocument::from(&worker),
            draining: true,
        });
    }
    let when = match worker.job.as_str() {
        "" => "ends now".to_owned(),
        job => format!("ends after its step of {job}"),
    };
    print::line(format_args!(
        "worker {} on host {} {when}",
        worker.worker, worker.host
    ))
    .map(drop)
}

async fn drain(args: &Args) -> Result<WorkerInfo, Failure> {
    let connection = args.connect.open().await?;
    let known = workers::list(&connection).await?;
    let worker = find(&args.worker, &known)?;
    let asked = DrainWorkerRequest {
        worker: worker.worker.clone(),
    };
    let mut client = connection.client.clone();
    let call = client.drain_worker(asked);
    connection.answer(About::Worker(&args.worker), call).await?;
    Ok(worker.clone())
}

/// The worker that is meant: by id, by the beginning of one, by its host.
fn find<'a>(named: &str, known: &'a [WorkerInfo]) -> Result<&'a WorkerInfo, Failure> {
    let refused = |text: String| Failure::new(Exit::Refused, text);
    let exact = known.iter().find(|worker| worker.worker == named);
    let means = |worker: &&WorkerInfo| {
        !named.is_empty() && (worker.worker.starts_with(named) || worker.host == named)
    };
    let meant: Vec<&WorkerInfo> = match exact {
        Some(worker) => vec![worker],
        None => known.iter().filter(means).collect(),
    };
    match meant.as_slice() {
        [worker] => Ok(worker),
        [] => Err(refused(format!(
            "no worker {named}; `weft workers` shows those there are"
        ))),
        several => {
            let ids: Vec<&str> = several
                .iter()
                .map(|worker| worker.worker.as_str())
                .collect();
            let ids = ids.join(", ");
            Err(refused(format!(
                "{named} may mean any of {ids}; give more of the id"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(worker: &str, host: &str) -> WorkerInfo {
        WorkerInfo {
            worker: worker.to_owned(),
            host: host.to_owned(),
            ..WorkerInfo::default()
        }
    }

    #[test]
    fn a_worker_is_known_by_id_beginning_or_host_and_never_guessed() {
        let known = [worker("0a1", "a"), worker("0a12", "b"), worker("0b1", "b")];
        let found = |named: &str| {
            let found = find(named, &known);
            found
                .map(|worker| worker.worker.as_str())
                .map_err(|failure| failure.to_string())
        };
        assert_eq!(
            found("0a1").as_deref(),
            Ok("0a1"),
            "exact before longer ones"
        );
        assert_eq!(found("0b").as_deref(), Ok("0b1"));
        assert_eq!(found("a").as_deref(), Ok("0a1"));
        assert!(found("b").is_err_and(|told| told.contains("0a12, 0b1")));
        assert!(found("").is_err() && found("c").is_err());
    }
}
