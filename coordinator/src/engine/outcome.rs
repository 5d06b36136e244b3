//! How jobs end, and why. Each reason's text names what happened, the values and the remedy; steps count from 1 in it, as
//! everywhere a person reads them.

use std::fmt;
use std::time::Duration;

use weft_common::id::{Rank, Step, Term, WorkerId};
use weft_common::wire::{CheckpointRef, ErrorKind, SumHealth};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// Every step is committed and the final checkpoint is complete.
    Succeeded {
        /// Steps of the whole job.
        steps: u64,
        /// The final state.
        checkpoint: CheckpointRef,
    },
    /// The job could not go on.
    Failed {
        /// Why.
        reason: FailReason,
        /// The newest complete checkpoint.
        checkpoint: Option<CheckpointRef>,
    },
    /// Someone asked for it to end.
    Cancelled {
        /// The newest complete checkpoint.
        checkpoint: Option<CheckpointRef>,
    },
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded { steps, .. } => write!(f, "succeeded after {steps} steps"),
            Self::Failed { reason, checkpoint } => {
                write!(f, "failed: {reason}; ")?;
                resume_hint(f, checkpoint.as_ref())
            }
            Self::Cancelled { checkpoint } => {
                write!(f, "cancelled; ")?;
                resume_hint(f, checkpoint.as_ref())
            }
        }
    }
}

fn resume_hint(f: &mut fmt::Formatter<'_>, checkpoint: Option<&CheckpointRef>) -> fmt::Result {
    match checkpoint {
        Some(at) => write!(
            f,
            "{} steps are saved in {}, resume continues from there",
            at.next_step,
            at.dir.display()
        ),
        None => f.write_str("no checkpoint was saved"),
    }
}

/// A worker as people find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerName {
    /// The process start.
    pub worker: WorkerId,
    /// Its host.
    pub host: String,
    /// Its device.
    pub device: String,
    /// Its rank, where it is a member.
    pub rank: Option<Rank>,
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} on host {}", self.worker, self.host)?;
        match self.rank {
            Some(rank) => write!(f, " (rank {rank}, {})", self.device),
            None => write!(f, " ({})", self.device),
        }
    }
}

/// Why a worker is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossCause {
    /// Its session ended.
    SessionLost(String),
    /// Nothing was heard of it.
    Silent(Duration),
    /// It is alive, but does not get on with its work.
    Stalled(Duration),
    /// It cannot go on.
    Failed(String),
    /// It did what an honest, healthy worker cannot.
    Expelled(String),
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionLost(why) => write!(f, "its connection ended ({why})"),
            Self::Silent(silence) => write!(f, "silent for {:.1} s", silence.as_secs_f64()),
            Self::Stalled(since) => {
                write!(f, "no progress for {:.1} s", since.as_secs_f64())
            }
            Self::Failed(why) => write!(f, "it failed: {why}"),
            Self::Expelled(why) => write!(f, "expelled: {why}"),
        }
    }
}

/// What digests were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The frozen base, as loaded.
    Model,
    /// Adapter and optimizer state before the first step.
    Start,
    /// The summed gradient of a step.
    Sum,
    /// Adapter and optimizer state after a step.
    State,
}

impl Compared {
    /// The step that led to the state that `step` starts from.
    #[must_use]
    pub fn before(step: Step) -> Step {
        Step(step.0.saturating_sub(1))
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "the base model they loaded",
            Self::Start => "the state they start from",
            Self::Sum => "the summed gradient",
            Self::State => "the state after the update",
        })
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    /// The dataset could not be prepared.
    #[error("{message}")]
    Data {
        /// What failed, the values, the remedy.
        message: String,
    },
    /// Workers did not come, or did not get ready.
    #[error(
        "only {ready} of {needed} workers were ready after {:.0} s ({attached} attached); start more workers, or lower \
         resources.workers.min", waited.as_secs_f64()
    )]
    NotEnoughWorkers {
        /// The minimum.
        needed: u32,
        /// Those ready.
        ready: u32,
        /// Those attached, ready or not.
        attached: u32,
        /// The deadline that passed.
        waited: Duration,
    },
    /// Members cannot reach each other, whatever the membership.
    #[error(
        "{worker} cannot reach its peers: {message}; check that workers can reach each other's ring ports"
    )]
    Unreachable {
        /// The last that was tried without.
        worker: Box<WorkerName>,
        /// What it said.
        message: String,
    },
    /// A worker cannot go on.
    #[error("{worker}: {message}")]
    WorkerFailed {
        /// Which.
        worker: Box<WorkerName>,
        /// What kind of failure.
        kind: ErrorKind,
        /// What failed, the values, the remedy.
        message: String,
    },
    /// Members that must agree bit for bit do not.
    #[error(
        "workers disagree on {what} at step {}; odd: {}; check that host's memory and that all hosts have the \
         same model files and CPU features", step.next(), names(.odd)
    )]
    Disagreement {
        /// What was compared.
        what: Compared,
        /// Where.
        step: Step,
        /// Those outside the majority; all where there is none.
        odd: Vec<WorkerName>,
    },
    /// The summed gradient cannot be used.
    #[error("the gradient of step {} {}; lower training.learning_rate or check the data of that step", step.next(), unhealthy(*.health))]
    NonFinite {
        /// Where.
        step: Step,
        /// What is wrong with it.
        health: SumHealth,
    },
    /// A commit could not be made durable.
    #[error("step {} could not be recorded in the ledger: {message}", step.next())]
    Ledger {
        /// Which.
        step: Step,
        /// What the disk said.
        message: String,
    },
    /// Another coordinator has taken the job over, and goes on with it.
    #[error(
        "the coordinator of term {by} has taken the job over; this one commits nothing any more, follow the other"
    )]
    Superseded {
        /// The other's term.
        by: Term,
    },
    /// The final checkpoint could not be written.
    #[error("the final checkpoint could not be written: {message}")]
    Checkpoint {
        /// What kind of failure.
        kind: ErrorKind,
        /// What failed, the values, the remedy.
        message: String,
    },
    /// Every step is committed, and the results could not be written.
    #[error("the results could not be written: {message}")]
    Results {
        /// What failed, the values, the remedy.
        message: String,
    },
}

fn names(odd: &[WorkerName]) -> String {
    let names: Vec<String> = odd.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn unhealthy(health: SumHealth) -> &'static str {
    match health {
        SumHealth::Finite => "is finite",
        SumHealth::NonFinite => "is infinite or not a number",
        SumHealth::Overflow => "exceeds the fixed-point range",
    }
}
