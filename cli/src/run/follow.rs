//! Follows a job from its start to its end: notices, requests to stop, workers that end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weft_coordinator::{JobHandle, JobOutcome, Notice, Notices};

use super::fleet::{Exited, Fleet};
use super::observer::Observer;
use crate::exit::{Exit, Failure};
use crate::signals::StopSignals;

/// How long the coordinator may take to notice that a worker of this machine ended. It has its own, shorter deadline for
/// the session; a worker that ends before it opens one is noticed only here.
const NOTICE_WITHIN: Duration = Duration::from_secs(5);

/// What is followed.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// The job.
    pub(super) job: &'a JobHandle,
    /// What its coordinator tells.
    pub(super) notices: &'a mut Notices,
    /// The worker processes of this machine; empty where workers come by themselves.
    pub(super) fleet: &'a mut Fleet,
    /// Requests to stop.
    pub(super) signals: &'a mut StopSignals,
}

/// Follows the job to its end. A first request to stop drains it, a second one gives up at once.
pub(super) async fn follow(
    subject: Subject<'_>,
    observer: &mut Observer,
) -> Result<JobOutcome, Failure> {
    let Subject {
        job,
        notices,
        fleet,
        signals,
    } = subject;
    let mut exited: Option<Exited> = None;
    let mut stopping = false;
    let mut deadline = None;
    loop {
        tokio::select! {
            notice = notices.next() => {
                let Some(notice) = notice else {
                    return Err(Failure::new(Exit::Internal, "the coordinator ended without an outcome"));
                };
                observer.notice(&notice, fleet.memory()).map_err(|error| metrics_failure(&error))?;
                if let Notice::Ended(outcome) = notice {
                    return Ok(outcome);
                }
            }
            signal = signals.next() => {
                if stopping {
                    return Err(Failure::new(Exit::Aborted, format_args!("stopped at once by a second {signal}")));
                }
                stopping = true;
                observer.say(&format!("{signal}: finishing the step and writing a checkpoint; again to stop at once"));
                job.cancel().await;
            }
            one = fleet.next_exit(), if exited.is_none() => {
                exited = Some(one);
                deadline = Some(Instant::now() + NOTICE_WITHIN);
            }
            () = until(deadline) => {
                let text = exited.map(|one| one.to_string()).unwrap_or_default();
                return Err(Failure::new(Exit::Job, text));
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn metrics_failure(error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Environment,
        format_args!("cannot write metrics.jsonl: {error}"),
    )
}
