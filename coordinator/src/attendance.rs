//! Follows a queue's job to its end with its attendant.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::thread;

use tokio::sync::mpsc;
use tracing::{error, warn};
use weft_common::id::JobId;

use crate::driver::Message;
use crate::engine::{FailReason, JobOutcome, Notice};
use crate::notices::Notices;
use crate::queue::Attendant;

/// Follows `job`, and says to the driver when its results are there.
pub(crate) fn attend(
    (job, submission): (JobId, u64),
    mut attendant: Box<dyn Attendant>,
    mut notices: Notices,
    inbox: mpsc::Sender<Message>,
) {
    thread::spawn(move || {
        let mut failing = false;
        while let Some(notice) = notices.next_blocking() {
            let Notice::Ended(outcome) = notice else {
                let taken = attendant.notice(&notice);
                if let (Err(error), false) = (&taken, failing) {
                    warn!(%job, error, "the output folder takes nothing; training goes on");
                }
                failing = taken.is_err();
                continue;
            };
            let left = attendant.ended(&outcome);
            let outcome = with_results(outcome, left);
            // The driver may have stopped meanwhile; the next one's attendant leaves the results then.
            let _ = inbox.blocking_send(Message::Attended {
                job,
                submission,
                outcome: Box::new(outcome),
            });
            return;
        }
    });
}

/// A job without its results has not succeeded.
fn with_results(outcome: JobOutcome, left: Result<(), String>) -> JobOutcome {
    match (outcome, left) {
        (JobOutcome::Succeeded { checkpoint, .. }, Err(message)) => {
            error!(message, "the results of a job could not be written");
            JobOutcome::Failed {
                reason: FailReason::Results { message },
                checkpoint: Some(checkpoint),
            }
        }
        (outcome, Err(error)) => {
            warn!(error, "a job's files are not complete");
            outcome
        }
        (outcome, Ok(())) => outcome,
    }
}
