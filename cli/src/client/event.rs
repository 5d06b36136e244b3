//! What happened to a job, and the figures of its steps: a line each, for people and for programs.

use serde::Serialize;
use weft_proto::v1::{EventLevel, JobEvent, StepFigures};

use super::clock::stamp;
use super::job::JobDocument;
use super::table::plain;
use crate::exit::{Exit, Failure};
use crate::output::print::{self, Listening};
use crate::output::progress::Shown;

/// One line for programs. The names are promised; `docs/commands.md` lists them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    /// The job as it is now.
    Job(JobDocument),
    /// Something happened to it.
    Event(EventDocument),
    /// A step is committed.
    Step(StepDocument),
}

/// What programs are told of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct EventDocument {
    number: u64,
    unix_ms: i64,
    level: &'static str,
    kind: String,
    text: String,
}

/// What programs are told of a committed step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StepDocument {
    step: u64,
    unix_ms: i64,
    epoch: f64,
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
    tokens: u64,
    supervised_tokens: u64,
    step_seconds: f64,
    tokens_per_second: f64,
    workers: u32,
}

impl From<&JobEvent> for EventDocument {
    fn from(event: &JobEvent) -> Self {
        Self {
            number: event.number,
            unix_ms: event.unix_ms,
            level: match event.level() {
                EventLevel::Unspecified | EventLevel::Info => "info",
                EventLevel::Warning => "warning",
                EventLevel::Error => "error",
            },
            kind: event.kind.clone(),
            text: event.text.clone(),
        }
    }
}

impl From<&StepFigures> for StepDocument {
    fn from(step: &StepFigures) -> Self {
        Self {
            step: step.step,
            unix_ms: step.unix_ms,
            epoch: step.epoch,
            loss: step.loss,
            grad_norm: step.grad_norm,
            learning_rate: step.learning_rate,
            tokens: step.tokens,
            supervised_tokens: step.supervised_tokens,
            step_seconds: step.step_seconds,
            tokens_per_second: tokens_per_second(step),
            workers: step.workers,
        }
    }
}

impl Line {
    /// Prints it.
    pub(super) fn print(&self) -> Result<Listening, Failure> {
        let text = serde_json::to_string(self);
        print::line(text.map_err(|error| Failure::new(Exit::Internal, error))?)
    }
}

/// An event for people.
pub(super) fn event_line(event: &JobEvent) -> String {
    let level = match event.level() {
        EventLevel::Unspecified | EventLevel::Info => "",
        // Its words say enough.
        EventLevel::Warning if event.kind == "member_lost" => "",
        EventLevel::Warning => "warning: ",
        EventLevel::Error => "error: ",
    };
    let text = event.text.strip_prefix(level).unwrap_or(&event.text);
    format!("{}  {level}{}", stamp(event.unix_ms), plain(text))
}

/// A step for people.
pub(super) fn step_line(step: &StepFigures) -> String {
    let workers = step.workers;
    let s = if workers == 1 { "" } else { "s" };
    format!(
        "{}  step {}  {}  {workers} worker{s}",
        stamp(step.unix_ms),
        step.step,
        shown(step)
    )
}

/// What a line of progress says of a step.
pub(super) fn shown(step: &StepFigures) -> Shown {
    Shown {
        step: step.step,
        epoch: step.epoch,
        loss: step.loss,
        grad_norm: step.grad_norm,
        learning_rate: step.learning_rate,
        tokens_per_second: tokens_per_second(step),
    }
}

fn tokens_per_second(step: &StepFigures) -> f64 {
    step.tokens as f64 / step.step_seconds.max(f64::EPSILON)
}
