//! Follows a job from its start to its end: notices, requests to stop, workers that end.

use std::collections::VecDeque;

use tokio::time::{Instant, sleep_until};
use weft_coordinator::{JobHandle, JobOutcome, Notice, Notices};

use super::fleet::Fleet;
use super::job::Manner;
use super::observer::Observer;
use crate::exit::{Exit, Failure};
use crate::signals::StopSignals;

/// How a job was followed to.
#[derive(Debug)]
pub(super) enum Followed {
    /// Its end.
    Over(JobOutcome),
    /// A request to stop, which a service leaves its job and its workers for.
    Told(&'static str),
}

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
    /// What a request to stop means.
    pub(super) manner: Manner,
}

/// Follows the job to its end. A first request to stop drains it, a second one gives up at once; a service goes at the
/// first, and leaves the job. A worker process of this machine that ends is replaced.
pub(super) async fn follow(
    subject: Subject<'_>,
    observer: &mut Observer,
) -> Result<Followed, Failure> {
    let Subject {
        job,
        notices,
        fleet,
        signals,
        manner,
    } = subject;
    let mut stopping = false;
    let mut replacements: VecDeque<(Instant, u32)> = VecDeque::new();
    loop {
        tokio::select! {
            notice = notices.next() => {
                let Some(notice) = notice else {
                    return Err(Failure::new(Exit::Internal, "the coordinator ended without an outcome"));
                };
                observer.notice(&notice, fleet.memory()).map_err(|error| metrics_failure(&error))?;
                if let Notice::Ended(outcome) = notice {
                    return Ok(Followed::Over(outcome));
                }
            }
            signal = signals.next() => {
                if manner == Manner::Service {
                    return Ok(Followed::Told(signal));
                }
                if stopping {
                    return Err(Failure::new(Exit::Aborted, format_args!("stopped at once by a second {signal}")));
                }
                stopping = true;
                observer.say(&format!("{signal}: finishing the step and writing a checkpoint; again to stop at once"));
                job.cancel().await;
            }
            exited = fleet.next_exit() => {
                if fleet.does_without(&exited) {
                    observer.say(&format!("warning: worker {} has a sick GPU; the others go on: {exited}", exited.number));
                    continue;
                }
                let Some(pause) = fleet.pause(&exited) else {
                    return Err(Failure::new(Exit::Job, format_args!("workers end again and again: {exited}")));
                };
                observer.say(&format!("{}; another one is started", exited.headline()));
                replacements.push_back((Instant::now() + pause, exited.number));
            }
            () = until(replacements.front()) => {
                if let Some((_, number)) = replacements.pop_front() {
                    fleet.replace(number).map_err(|error| {
                        Failure::new(Exit::Environment, format_args!("cannot start a worker process: {error}"))
                    })?;
                }
            }
        }
    }
}

async fn until(next: Option<&(Instant, u32)>) {
    match next {
        Some((at, _)) => sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

fn metrics_failure(error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Environment,
        format_args!("cannot write metrics.jsonl: {error}"),
    )
}
