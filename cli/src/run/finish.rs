//! What a job leaves behind, and how its end becomes an exit code.

use weft_common::wire::ErrorKind;
use weft_coordinator::{FailReason, JobOutcome};

use super::fleet::Exited;
use super::observer::Observer;
use super::ready::Ready;
use super::shared;
use crate::exit::{Exit, Failure};
use crate::output::{adapter, print};

/// Leaves what there is to leave, and fails where the job did.
pub(super) fn finish(
    ready: &Ready,
    observer: &Observer,
    outcome: &JobOutcome,
    exited: Option<&Exited>,
) -> Result<(), Failure> {
    leave(ready, observer, outcome)?;
    match outcome {
        JobOutcome::Succeeded { .. } => {
            observer.report();
            print::error(format_args!(
                "adapter in {}",
                ready.folder.adapter().display()
            ));
            Ok(())
        }
        JobOutcome::Cancelled { .. } => Err(Failure::new(
            Exit::Interrupted,
            format_args!("interrupted; {}", resume_hint(outcome)),
        )),
        JobOutcome::Failed { reason, .. } => {
            let mut text = format!("{reason}; {}", resume_hint(outcome));
            if let Some(exited) = exited {
                text.push_str(&format!("\n{exited}"));
            }
            Err(Failure::new(exit_of(reason), text))
        }
    }
}

/// Writes what the outcome allows.
pub(crate) fn leave(
    ready: &Ready,
    observer: &Observer,
    outcome: &JobOutcome,
) -> Result<(), Failure> {
    let disk = |error: anyhow::Error| Failure::new(Exit::Environment, format_args!("{error:#}"));
    match outcome {
        JobOutcome::Succeeded { checkpoint, .. } => {
            let recipe = &ready.preflight.recipe;
            let dir = shared::on_this_machine(
                ready.store.as_ref(),
                recipe,
                &checkpoint.dir,
                &ready.cache,
            )
            .map_err(|defect| Failure::new(Exit::Environment, defect))?;
            let made_of = (&ready.preflight.tokenizer, recipe);
            adapter::publish(&dir, made_of, &ready.folder.adapter()).map_err(disk)?;
            observer.write_trainer_files(true).map_err(disk)
        }
        JobOutcome::Cancelled { .. } => observer.write_trainer_files(false).map_err(disk),
        JobOutcome::Failed { .. } => Ok(()),
    }
}

/// Where a stopped job can go on from.
fn resume_hint(outcome: &JobOutcome) -> String {
    let (JobOutcome::Failed { checkpoint, .. } | JobOutcome::Cancelled { checkpoint }) = outcome
    else {
        return String::new();
    };
    match checkpoint {
        Some(at) => format!(
            "{} steps are saved in {}; go on with --resume",
            at.next_step,
            at.dir.display()
        ),
        None => "no checkpoint was saved; --resume starts from the beginning".to_owned(),
    }
}

/// The exit code of a failed job.
fn exit_of(reason: &FailReason) -> Exit {
    match reason {
        FailReason::Data { .. } => Exit::Data,
        FailReason::WorkerFailed { kind, .. } | FailReason::Checkpoint { kind, .. } => {
            exit_of_kind(*kind)
        }
        FailReason::Ledger { .. } | FailReason::Results { .. } => Exit::Environment,
        FailReason::NotEnoughWorkers { .. }
        | FailReason::Superseded { .. }
        | FailReason::Unreachable { .. }
        | FailReason::Disagreement { .. }
        | FailReason::NonFinite { .. } => Exit::Job,
    }
}

fn exit_of_kind(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Recipe => Exit::Recipe,
        ErrorKind::Model => Exit::Model,
        ErrorKind::Data => Exit::Data,
        ErrorKind::Memory | ErrorKind::Storage => Exit::Environment,
        ErrorKind::Checkpoint | ErrorKind::Collective | ErrorKind::Internal => Exit::Job,
    }
}
