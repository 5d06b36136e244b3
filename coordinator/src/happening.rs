//! What happens to a job, in words: the log, the records and the command line say the same.

use weft_proto::v1;

use crate::engine::{JobOutcome, Notice};
use weft_common::wire::Update;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Who should know.
    pub level: Level,
    /// What kind of thing, for programs: snake_case.
    pub kind: &'static str,
    /// What happened, in words.
    pub text: String,
}

/// Who should know of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A person follows the run.
    Info,
    /// It healed by itself.
    Warning,
    /// Someone must act.
    Error,
}

impl Happening {
    pub(crate) fn new(level: Level, kind: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { level, kind, text }
    }

    /// What a notice says. A step like all others is no happening.
    #[must_use]
    pub fn of(notice: &Notice) -> Option<Self> {
        use Level::{Info, Warning};
        let (level, kind, text) = match notice {
            Notice::WorkerJoined(worker) => (Info, "worker_joined", format!("{worker} joined")),
            Notice::WorkerGone { worker, cause } => {
                (Info, "worker_gone", format!("{worker} is gone: {cause}"))
            }
            Notice::Admitted => (Info, "admitted", "its turn has come".to_owned()),
            Notice::Planned {
                total_steps, start, ..
            } => {
                let from = match start.0 {
                    0 => String::new(),
                    done => format!(", {done} of them committed before"),
                };
                (Info, "planned", format!("{total_steps} steps{from}"))
            }
            Notice::Waiting(reason) => (Info, "waiting", format!("waiting: {reason}")),
            Notice::EpochFormed(formed) => {
                let (epoch, world, step) = (formed.epoch, formed.members.len(), formed.step.next());
                let text = format!("epoch {epoch}: {world} workers, step {step} goes on");
                (Info, "epoch_formed", text)
            }
            Notice::MemberLost(incident) => (Warning, "member_lost", incident.to_string()),
            Notice::RolledBack { from, to } => {
                let text = format!(
                    "no worker holds the state after step {from} any more; back to the checkpoint after step {to}"
                );
                (Warning, "rolled_back", text)
            }
            Notice::StepCommitted(step) => {
                if step.update == Update::Apply {
                    return None;
                }
                let text = format!(
                    "step {} had a gradient that is not finite and changed nothing",
                    step.step.next()
                );
                (Warning, "step_skipped", text)
            }
            Notice::CheckpointSaved { checkpoint, .. } => {
                let (step, dir) = (checkpoint.next_step, checkpoint.dir.display());
                let text = format!("checkpoint after step {step} saved in {dir}");
                (Info, "checkpoint_saved", text)
            }
            Notice::CheckpointFailed {
                checkpoint,
                message,
            } => {
                let step = checkpoint.next_step;
                let text = format!("no checkpoint after step {step}: {message}; training goes on");
                (Warning, "checkpoint_failed", text)
            }
            Notice::CheckpointOverdue(alarm) => (Warning, "checkpoint_overdue", alarm.to_string()),
            Notice::GpuSick { worker, sickness } => {
                let remedy = sickness.remedy();
                let text = format!("{worker} is let go, {sickness}; {remedy}");
                (Warning, "gpu_sick", text)
            }
            Notice::GpuConcern { worker, concern } => (
                Warning,
                "gpu_concern",
                format!("GPU of {worker}: {concern}"),
            ),
            Notice::Draining(reason) => (Info, "draining", format!("stopping: {reason}")),
            Notice::Ended(outcome) => (level_of(outcome), "ended", outcome.to_string()),
        };
        Some(Self::new(level, kind, text))
    }

    /// As a line of its own: a warning says that it is one.
    #[must_use]
    pub fn line(&self) -> String {
        match self.level {
            Level::Warning if self.kind != "member_lost" => format!("warning: {}", self.text),
            Level::Info | Level::Warning | Level::Error => self.text.clone(),
        }
    }
}

fn level_of(outcome: &JobOutcome) -> Level {
    match outcome {
        JobOutcome::Failed { .. } => Level::Error,
        JobOutcome::Succeeded { .. } | JobOutcome::Cancelled { .. } => Level::Info,
    }
}

impl From<Level> for v1::EventLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Info,
            Level::Warning => Self::Warning,
            Level::Error => Self::Error,
        }
    }
}
