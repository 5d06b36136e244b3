//! Progress on the terminal: a bar with the time left, or plain lines where nobody watches.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::figures::clock;
use super::metrics::StepRecord;
use super::print::{self, Listening};
use crate::exit::Failure;

/// Who reads what a run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Someone at a terminal, or reading a log.
    People,
    /// A program: one JSON object a line.
    Programs,
}

/// What is shown of one committed step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shown {
    /// Steps committed so far, this one included.
    pub(crate) step: u64,
    /// Passes over the data so far.
    pub(crate) epoch: f64,
    /// Mean loss of the step's supervised tokens.
    pub(crate) loss: f64,
    /// Global norm of the gradient before clipping.
    pub(crate) grad_norm: f64,
    /// Learning rate that the step used.
    pub(crate) learning_rate: f64,
    /// Real tokens a second.
    pub(crate) tokens_per_second: f64,
}

/// Where progress goes.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A bar that redraws itself.
    Bar(ProgressBar),
    /// One line every `every` steps.
    Lines(Lines),
    /// One JSON object a step.
    Json,
}

/// Plain lines, for logs and pipes.
#[derive(Debug)]
pub(crate) struct Lines {
    total: u64,
    first: u64,
    every: u64,
    start: Instant,
}

impl Progress {
    /// For people a bar on a terminal and lines elsewhere. `done` steps were committed before.
    pub(crate) fn new(audience: Audience, total: u64, done: u64, every: u64) -> Self {
        if audience == Audience::Programs {
            return Self::Json;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines(Lines {
                total,
                first: done,
                every: every.max(1),
                start: Instant::now(),
            });
        }
        let template = "{bar:30} {pos}/{len} [{elapsed_precise}<{eta_precise}] {msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style);
        bar.set_position(done);
        bar.reset_eta();
        bar.tick();
        Self::Bar(bar)
    }

    /// Shows one committed step; the run that it belongs to goes on though nobody may read it.
    pub(crate) fn step(&self, record: &StepRecord) {
        match self {
            Self::Bar(_) | Self::Lines(_) => {
                let _ = self.show(&Shown::from(record));
            }
            Self::Json => print::aside(serde_json::to_string(record).unwrap_or_default()),
        }
    }

    /// Shows one committed step to people.
    ///
    /// # Errors
    /// As [`print::line`].
    pub(crate) fn show(&self, shown: &Shown) -> Result<Listening, Failure> {
        let brief = format_args!(
            "loss {:.4}  lr {:.2e}  {:.0} tok/s",
            shown.loss, shown.learning_rate, shown.tokens_per_second
        );
        self.advance(shown.step, brief, shown)
    }

    /// Shows people how far it is, with words for a bar and for a line.
    ///
    /// # Errors
    /// As [`print::line`].
    pub(crate) fn advance(
        &self,
        step: u64,
        brief: impl fmt::Display,
        full: impl fmt::Display,
    ) -> Result<Listening, Failure> {
        match self {
            Self::Bar(bar) => {
                bar.set_message(brief.to_string());
                bar.set_position(step);
            }
            Self::Lines(lines) => {
                if step.is_multiple_of(lines.every) || step == lines.total {
                    return print::line(lines.line(step, full, lines.start.elapsed()));
                }
            }
            Self::Json => {}
        }
        Ok(Listening::Continue(()))
    }

    /// Prints a notice without tearing the bar.
    pub(crate) fn notice(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| print::error(text)),
            Self::Lines(_) | Self::Json => print::error(text),
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

impl Lines {
    fn line(&self, step: u64, words: impl fmt::Display, elapsed: Duration) -> String {
        let done = step.saturating_sub(self.first).max(1) as f64;
        let left = self.total.saturating_sub(step) as f64;
        let eta = clock(elapsed.mul_f64(left / done));
        format!("step {step}/{}  {words}  eta {eta}", self.total)
    }
}

impl fmt::Display for Shown {
    /// Without the step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "epoch {:.2}  loss {:.4}  grad_norm {:.4}  lr {:.3e}  {:.0} tok/s",
            self.epoch, self.loss, self.grad_norm, self.learning_rate, self.tokens_per_second
        )
    }
}

impl From<&StepRecord> for Shown {
    fn from(record: &StepRecord) -> Self {
        Self {
            step: record.step,
            epoch: record.epoch,
            loss: record.loss,
            grad_norm: record.grad_norm,
            learning_rate: record.learning_rate,
            tokens_per_second: record.tokens_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::sample;
    use super::*;

    #[test]
    fn the_time_left_counts_only_the_steps_of_this_run() {
        let lines = Lines {
            total: 30,
            first: 10,
            every: 1,
            start: Instant::now(),
        };
        let text = lines.line(20, Shown::from(&sample(20, 1.25)), Duration::from_secs(60));
        assert!(text.starts_with("step 20/30 "), "{text}");
        assert!(text.contains("loss 1.2500"), "{text}");
        assert!(text.ends_with("eta 01:00"), "{text}");
    }
}
