//! Progress on the terminal: a bar with the time left, or plain lines where nobody watches.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::figures::clock;
use super::metrics::StepRecord;
use super::print;

/// Who reads what a run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Someone at a terminal, or reading a log.
    People,
    /// A program: one JSON object a line.
    Programs,
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

    /// Shows one committed step.
    pub(crate) fn step(&self, record: &StepRecord) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(format!(
                    "loss {:.4}  lr {:.2e}  {:.0} tok/s",
                    record.loss, record.learning_rate, record.tokens_per_second
                ));
                bar.set_position(record.step);
            }
            Self::Lines(lines) => {
                if record.step.is_multiple_of(lines.every) || record.step == lines.total {
                    print::aside(lines.line(record, lines.start.elapsed()));
                }
            }
            Self::Json => print::aside(serde_json::to_string(record).unwrap_or_default()),
        }
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
    fn line(&self, record: &StepRecord, elapsed: Duration) -> String {
        let done = record.step.saturating_sub(self.first).max(1) as f64;
        let left = self.total.saturating_sub(record.step) as f64;
        let eta = elapsed.mul_f64(left / done);
        format!(
            "step {}/{}  epoch {:.2}  loss {:.4}  grad_norm {:.4}  lr {:.3e}  {:.0} tok/s  eta {}",
            record.step,
            self.total,
            record.epoch,
            record.loss,
            record.grad_norm,
            record.learning_rate,
            record.tokens_per_second,
            clock(eta)
        )
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
        let text = lines.line(&sample(20, 1.25), Duration::from_secs(60));
        assert!(text.starts_with("step 20/30 "), "{text}");
        assert!(text.contains("loss 1.2500"), "{text}");
        assert!(text.ends_with("eta 01:00"), "{text}");
    }
}
