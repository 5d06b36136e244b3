//! What is told goes to the log as well.

use tracing::{debug, error, info, warn};
use weft_common::id::JobId;

use crate::engine::Notice;

/// Says each fact once.
pub(super) fn log(job: Option<&JobId>, notice: &Notice) {
    let job = job.map(JobId::as_str);
    match notice {
        Notice::Admitted => info!(job, "job admitted"),
        Notice::WorkerJoined(worker) => info!(%worker, "worker attached"),
        Notice::WorkerGone { worker, cause } => info!(%worker, cause, "worker gone"),
        Notice::Planned { total_steps, .. } => info!(job, total_steps, "dataset prepared"),
        Notice::Waiting(reason) => info!(job, %reason, "job waits"),
        Notice::EpochFormed(epoch) => {
            info!(job, epoch = %epoch.epoch, world = epoch.members.len(), "epoch formed");
        }
        Notice::MemberLost(incident) => info!(
            job,
            worker = %incident.worker,
            cause = %incident.cause,
            step = %incident.step,
            slots_returned = incident.slots_returned,
            left = incident.left,
            "member lost"
        ),
        Notice::RolledBack { from, to } => warn!(job, %from, %to, "back to a checkpoint"),
        Notice::StepCommitted(step) => debug!(
            step = %step.step,
            loss = step.loss,
            control_ms = step.timing.control.as_secs_f64() * 1e3,
            job,
            "step committed"
        ),
        Notice::CheckpointSaved { checkpoint, .. } => {
            info!(job, step = %checkpoint.next_step, dir = %checkpoint.dir.display(), "checkpoint saved");
        }
        Notice::CheckpointFailed {
            checkpoint,
            message,
        } => warn!(job, step = %checkpoint.next_step, message, "checkpoint failed"),
        Notice::CheckpointOverdue(alarm) => error!(job, "{alarm}"),
        Notice::GpuSick { worker, sickness } => {
            error!(job, %worker, remedy = %sickness.remedy(), "{sickness}; the worker is let go");
        }
        Notice::GpuConcern { worker, concern } => warn!(job, %worker, "GPU: {concern}"),
        Notice::Draining(cause) => info!(job, cause, "job drains"),
        Notice::Ended(outcome) => info!(job, %outcome, "job ended"),
    }
}
